#include "cpu/sam_encoder/packed_linear.h"

namespace fastseg::cpu::sam_encoder {

Buffer pack_panels(const nn::DenseKernels& kernels, const float* from, int64_t in, int64_t out) {
    Buffer made = nn::float_buffer(in * out);
    float* to = made.floats();
    for (int64_t first = 0; first < in; first += k_block)
        for (int64_t column = 0; column < out; column += kernels.columns)
            for (int64_t k = first; k < std::min(first + k_block, in); ++k, to += kernels.columns)
                std::copy_n(from + k * out + column, kernels.columns, to);
    return made;
}

void multiply(const nn::DenseKernels& kernels, const RowBlocks& a, int64_t rows,
              const LinearPart& part, const PanelSums& sums, bool add) {
    const Linear& linear = part.linear;
    for (int64_t block = 0; block < part.blocks; ++block) {
        const int64_t first = (part.first_block + block) * k_block;
        const int64_t k = std::min(k_block, linear.in - first);
        const float* panels = linear.kernel.floats() + first * linear.out + part.first_column * k;
        for (int64_t column = 0; column < part.columns; column += kernels.columns)
            kernels.panel_gemm({a.at(0, block), k_block, rows, k, panels + column * k,
                                sums.panel(column), kernels.columns, add || block > 0,
                                panels + (column + kernels.columns) * k});
    }
}

}  // namespace fastseg::cpu::sam_encoder

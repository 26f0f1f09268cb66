// The weight gradient of a depthwise convolution of stride 1, channels last, float32.
// Every tap of one kernel row keeps its sums in registers while a row of the image streams past.
#include <torch/extension.h>

#include <algorithm>

namespace {

constexpr int LANES = 16;

template <int K>
void row_of_taps(const float* x, const float* g, int64_t width, int64_t channels, float* sums) {
    float partial[K][LANES] = {};
    for (int64_t column = 0; column < width; ++column) {
        const float* gradient = g + column * channels;
        const float* input = x + column * channels;
        for (int tap = 0; tap < K; ++tap)
            for (int lane = 0; lane < LANES; ++lane)
                partial[tap][lane] += gradient[lane] * input[tap * channels + lane];
    }
    for (int tap = 0; tap < K; ++tap)
        for (int lane = 0; lane < LANES; ++lane) sums[tap * channels + lane] += partial[tap][lane];
}

template <int K>
void all_rows(const at::Tensor& x, const at::Tensor& g, at::Tensor& sums) {
    const int64_t height = g.size(1), width = g.size(2), channels = g.size(3);
    const int64_t padded = x.size(2);
    for (int64_t image = 0; image < g.size(0); ++image)
        for (int64_t row = 0; row < height; ++row)
            for (int64_t first = 0; first < channels; first += LANES)
                for (int down = 0; down < K; ++down) {
                    const int64_t line = (image * x.size(1) + row + down) * padded * channels;
                    const int64_t own = (image * height + row) * width * channels;
                    row_of_taps<K>(x.data_ptr<float>() + line + first,
                                   g.data_ptr<float>() + own + first, width, channels,
                                   sums.data_ptr<float>() + down * K * channels + first);
                }
}

}  // namespace

// x (B, h + K - 1, w + K - 1, C), padded; g (B, h, w, C); returns (K, K, C). C is a multiple of 16.
at::Tensor weight_gradient(const at::Tensor& x, const at::Tensor& g, int64_t kernel) {
    TORCH_CHECK(g.size(3) % LANES == 0, "channels must be a multiple of 16");
    TORCH_CHECK(x.is_contiguous() && g.is_contiguous(), "both must be contiguous");
    TORCH_CHECK(x.scalar_type() == at::kFloat && g.scalar_type() == at::kFloat, "float32 only");
    at::Tensor sums = at::zeros({kernel, kernel, g.size(3)}, g.options());
    switch (kernel) {
        case 5:
            all_rows<5>(x, g, sums);
            break;
        case 7:
            all_rows<7>(x, g, sums);
            break;
        case 9:
            all_rows<9>(x, g, sums);
            break;
        default:
            TORCH_CHECK(false, "kernels of 5, 7 and 9 alone");
    }
    return sums;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
    module.def("weight_gradient", &weight_gradient);
}

// The forward pass with bfloat16 products: residuals, norms, softmax and sums are float32.
#include <cstring>

#include "cpu/sam_encoder/passes.h"
#include "cpu/sam_encoder/x86/attention.h"
#include "cpu/sam_encoder/x86/tiled_gemm.h"
#include "cpu/support/parallel.h"

namespace fastseg::cpu::sam_encoder {
namespace {

constexpr int64_t few_rows = 16;  // that a thread normalises at a time

// The buffers of the forward pass of one image, and its steps.
class EncoderPass {
  public:
    EncoderPass(const Model& model, int threads)
        : model_(model),
          threads_(threads),
          x_(nn::float_buffer(model.tokens() * model.width)),
          packed_(model.tokens() * model.width * 2),
          hidden_(model.tokens() * 4 * model.width * 2),
          attention_(model) {}

    void run(const float* image, float* embedding) {
        embed(image);
        for (const Layer& layer : model_.layers) {
            normalise(layer.norm1);
            attention_.project(layer, packed(), threads_);
            attention_.attend(layer, packed(), threads_);
            add(layer.proj, packed());
            normalise(layer.norm2);
            run_tiled(model_, {layer.lin1, packed(), model_.tokens(), threads_},
                      [&](const Part& part) {
                          gelu_to_a(part.sums, part.row, part.column, 4 * model_.width, hidden());
                      });
            add(layer.lin2, hidden());
        }
        neck(embedding);
    }

  private:
    Bf16* packed() const { return reinterpret_cast<Bf16*>(packed_.bytes()); }
    Bf16* hidden() const { return reinterpret_cast<Bf16*>(hidden_.bytes()); }

    // x += input * linear
    void add(const Linear& linear, const Bf16* input) {
        run_tiled(model_, {linear, input, model_.tokens(), threads_}, [&](const Part& part) {
            add_to(part.sums, x_.floats() + part.row * model_.width + part.column, model_.width);
        });
    }

    void normalise(const Norm& norm) {
        each(model_.tokens() / few_rows, [&](int64_t block) {
            const int64_t row = block * few_rows;
            norm_to_a(x_.floats() + row * model_.width, few_rows, model_.width, norm, row,
                      packed());
        });
    }

    // Patches of pixels to tokens, which start as their position embeddings.
    void embed(const float* image) {
        const int64_t grid = model_.grid, side = model_.pixels(), in = 3 * patch * patch;
        const Buffer pixels(model_.tokens() * in * 2);
        auto* const to = reinterpret_cast<Bf16*>(pixels.bytes());
        parallel_for(threads_, grid, [&]() -> std::function<void(int64_t)> {
            return [&, row = std::vector<float>(static_cast<size_t>(in))](int64_t y) mutable {
                for (int64_t x = 0; x < grid; ++x) {
                    for (int64_t line = 0; line < 3 * patch; ++line)
                        std::memcpy(row.data() + line * patch,
                                    image +
                                        (line / patch * side + y * patch + line % patch) * side +
                                        x * patch,
                                    patch * sizeof(float));
                    rows_to_a(row.data(), 1, in, y * grid + x, to);
                }
            };
        });
        std::memcpy(x_.floats(), model_.positions.data(), model_.positions.size() * sizeof(float));
        add(model_.embed, to);
    }

    void neck(float* embedding) {
        const int64_t grid = model_.grid, tokens = model_.tokens(), across = grid + 2;
        each(tokens / few_rows, [&](int64_t block) {
            const int64_t row = block * few_rows;
            rows_to_a(x_.floats() + row * model_.width, few_rows, model_.width, row, packed());
        });
        Buffer found = nn::float_buffer(tokens * out_width);
        const auto fill = [&](const Linear& linear, const Bf16* input) {
            std::memset(found.bytes(), 0, static_cast<size_t>(tokens * out_width) * sizeof(float));
            run_tiled(model_, {linear, input, tokens, threads_}, [&](const Part& part) {
                add_to(part.sums, found.floats() + part.row * out_width + part.column, out_width);
            });
        };
        fill(model_.neck1, packed());
        // A frame of zeros around the image, as the convolution pads it.
        const Buffer framed(across * across * out_width * 2);
        auto* const map = reinterpret_cast<Bf16*>(framed.bytes());
        each(grid, [&](int64_t y) {
            float* row = found.floats() + y * grid * out_width;
            norm_rows(row, grid, out_width, model_.neck_norm1);
            narrow_row(row, grid * out_width, map + ((y + 1) * across + 1) * out_width);
        });
        const Buffer patches(tokens * 9 * out_width * 2);
        each(grid, [&](int64_t y) { im2col_row(map, y, patches.bytes()); });
        fill(model_.neck2, reinterpret_cast<const Bf16*>(patches.bytes()));
        each(grid, [&](int64_t y) {
            float* row = found.floats() + y * grid * out_width;
            norm_rows(row, grid, out_width, model_.neck_norm2);
            model_.table.transpose(row, grid, out_width, out_width, embedding + y * grid, tokens);
        });
    }

    // The 3 x 3 neighbours of a row of tokens side by side, in format a.
    void im2col_row(const Bf16* map, int64_t y, std::byte* patches) const {
        const int64_t grid = model_.grid, blocks = 9 * out_width / 32;
        for (int64_t x = 0; x < grid; ++x) {
            const int64_t token = y * grid + x;
            std::byte* row = patches + token / 16 * blocks * 1024 + token % 16 * 64;
            for (int64_t tap = 0; tap < 9; ++tap) {
                const Bf16* from = map + ((y + tap / 3) * (grid + 2) + x + tap % 3) * out_width;
                for (int64_t c = 0; c < out_width; c += 32, row += 1024)
                    std::memcpy(row, from + c, 64);
            }
        }
    }

    void each(int64_t items, const std::function<void(int64_t)>& body) const {
        parallel_for(threads_, items, [&] { return body; });
    }

    const Model& model_;
    const int threads_;
    const Buffer x_;       // [tokens, width] the residual
    const Buffer packed_;  // [tokens, width] in format a
    const Buffer hidden_;  // [tokens, 4 * width] in format a
    Attention attention_;
};

}  // namespace

void embed_bf16(const Model& model, const float* image, float* embedding, int threads) {
    EncoderPass(model, team_size(threads, model.tokens() / few_rows, 1e9)).run(image, embedding);
}

}  // namespace fastseg::cpu::sam_encoder

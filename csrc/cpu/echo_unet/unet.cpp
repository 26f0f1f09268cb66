#include "cpu/echo_unet/unet.h"

#include <stdexcept>

#include "cpu/support/parallel.h"

namespace fastseg::cpu::echo_unet {
namespace {

std::unique_ptr<Network> opened(const nn::Weights& weights, const Sizes& sizes,
                                const std::string& name) {
    const nn::KernelTable* table = nn::find_kernel_table(name.c_str());
    if (!table || (table->bf16 && name != "amx-bf16"))
        throw std::invalid_argument("it has no kernel for the table " + name + " here");
    return (table->bf16 ? open_bf16 : open_f32)(weights, sizes, *table);
}

}  // namespace

// A forward pass with its feature maps, leased from the network for the time of a call.
class Unet::WorkspaceLease {
  public:
    explicit WorkspaceLease(const Unet& owner) : owner_(owner) {
        for (auto& slot : owner.idle_)
            if (ForwardPass* found = slot.exchange(nullptr)) {
                pass_.reset(found);
                return;
            }
        pass_ = owner.network_->make_pass();
    }
    WorkspaceLease(const WorkspaceLease&) = delete;
    ~WorkspaceLease() {
        for (auto& slot : owner_.idle_) {
            ForwardPass* empty = nullptr;
            if (slot.compare_exchange_strong(empty, pass_.get())) {
                static_cast<void>(pass_.release());
                return;
            }
        }
    }

    ForwardPass* operator->() const { return pass_.get(); }

  private:
    const Unet& owner_;
    std::unique_ptr<ForwardPass> pass_;
};

Unet::Unet(const nn::Weights& weights, int64_t side, const std::string& kernel_table)
    : sizes_(weights, side), network_(opened(weights, sizes_, kernel_table)) {}

Unet::~Unet() {
    for (auto& slot : idle_) delete slot.load();
}

// As many frames at once as there are threads; the remaining frames are shared by all threads.
void Unet::run(const float* frames, int64_t count, float* probabilities, int threads) const {
    const int64_t pixels = side() * side();
    const int team = team_size(threads, pixels, 1e9);
    const int64_t alone = count - count % team;
    const auto pass = [&](const WorkspaceLease& lease, int64_t frame, int helpers) {
        lease->run(frames + frame * channels() * pixels, probabilities + frame * classes() * pixels,
                   helpers);
    };
    parallel_for(team_size(team, alone, 1e9), alone, [&]() -> std::function<void(int64_t)> {
        return [&, lease = std::make_shared<WorkspaceLease>(*this)](int64_t frame) {
            pass(*lease, frame, 1);
        };
    });
    if (alone == count) return;
    const WorkspaceLease lease(*this);
    for (int64_t frame = alone; frame < count; ++frame) pass(lease, frame, team);
}

}  // namespace fastseg::cpu::echo_unet

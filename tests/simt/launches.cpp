// How many kernels and memsets a launcher launches: `launches OP NUMBERS...` prints it.
//
//   el2n B C    update_voe_ B C N    voe K N    capped_topk N C
//   node_sum NORMED    node_sum_backward NORMED NEEDED NEED_WEIGHT, with a 0 or 1 for each input
#include <string>

#include "capped_topk.cuh"
#include "check.h"
#include "el2n.cuh"
#include "node_sum_backward.cuh"
#include "node_sum_forward.cuh"
#include "update_voe_.cuh"
#include "voe.cuh"

using namespace check;

static std::vector<std::string> words;  // of the command line

static std::int64_t number(std::size_t at) { return std::stoll(words.at(at)); }

static std::vector<bool> flags(std::size_t at) {
  std::vector<bool> result;
  for (const char flag : words.at(at)) result.push_back(flag == '1');
  return result;
}

template <typename T>
static Buffer<T> zeros(std::int64_t size) {
  Buffer<T> buffer(size);
  std::fill(buffer.begin(), buffer.end(), T{});
  return buffer;
}

static cudaError_t rows(bool ring) {
  const std::int64_t rows = number(1), classes = number(2), samples = ring ? number(3) : 0;
  const auto logits = zeros<float>(rows * classes), score = zeros<float>(rows);
  const auto target = zeros<std::int64_t>(rows), index = zeros<std::int64_t>(rows);
  const auto window = zeros<float>(2 * samples), voe = zeros<float>(samples);
  Buffer<char> scratch(el2n_scratch_bytes(rows, classes));
  return ring ? launch_update_voe_(window.data(), voe.data(), 2, samples, 0, index.data(),
                                   logits.data(), classes, target.data(), rows, classes,
                                   scratch.data(), nullptr)
              : launch_el2n(logits.data(), classes, target.data(), score.data(), rows, classes,
                            scratch.data(), nullptr);
}

static cudaError_t voe() {
  const auto window = zeros<float>(number(1) * number(2)), out = zeros<float>(number(2));
  return launch_voe(window.data(), number(1), number(2), number(2), out.data(), nullptr);
}

static cudaError_t capped_topk() {
  const std::int64_t samples = number(1), classes = number(2);
  const auto score = zeros<float>(samples);
  const auto label = zeros<std::int64_t>(samples), cap = zeros<std::int64_t>(classes);
  const auto mask = zeros<bool>(samples);
  const auto taken = zeros<std::int64_t>(1);
  Buffer<char> scratch(capped_topk_scratch_bytes(samples, classes));
  return launch_capped_topk(score.data(), label.data(), cap.data(), samples, classes, 1, true,
                            mask.data(), taken.data(), scratch.data(), nullptr);
}

static cudaError_t node_sum(bool backward) {
  constexpr std::int64_t kPixels = 8, kChannels = 4;
  const std::vector<bool> normed = flags(1);
  const auto inputs = static_cast<std::int64_t>(normed.size());
  const auto x = zeros<float>(kPixels * kChannels), y = zeros<float>(kPixels * kChannels);
  const auto weight = zeros<float>(inputs), grad_weight = zeros<float>(inputs);
  const auto mean = zeros<float>(inputs * kChannels), rstd = zeros<float>(inputs * kChannels);
  const std::vector<const float*> addresses(normed.size(), x.data());
  const NodeInputs<float> node = {addresses.data(), normed, inputs, kPixels, kChannels};
  Buffer<char> scratch(node_sum_scratch_bytes(inputs, kPixels, kChannels));
  if (!backward) {
    return launch_node_sum(node, weight.data(), 1e-5f, false, y.data(), mean.data(), rstd.data(),
                           scratch.data(), nullptr);
  }
  const auto gradients = zeros<float>(inputs * kPixels * kChannels);
  std::vector<float*> of_inputs;
  for (const bool needed : flags(2)) {
    const auto at = static_cast<std::int64_t>(of_inputs.size()) * kPixels * kChannels;
    of_inputs.push_back(needed ? gradients.data() + at : nullptr);
  }
  return launch_node_sum_backward(node, weight.data(), mean.data(), rstd.data(), y.data(), false,
                                  of_inputs.data(), flags(3)[0] ? grad_weight.data() : nullptr,
                                  scratch.data(), nullptr);
}

int main(int count, char** arguments) {
  words.assign(arguments + 1, arguments + count);
  simt::options.multiprocessors = 132;
  const std::string op = words.at(0);
  const cudaError_t error = op == "el2n"          ? rows(false)
                            : op == "update_voe_" ? rows(true)
                            : op == "voe"         ? voe()
                            : op == "capped_topk" ? capped_topk()
                                                  : node_sum(op == "node_sum_backward");
  CHECK(error == cudaSuccess, "%s", op.c_str());
  std::printf("%ld\n", simt::launches);
}

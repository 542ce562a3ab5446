// Calls the operators with random arguments and checks the results; linked with the operators'
// sources, all compiled with sanitizers. tools/dev/fuzz.py compiles and runs it.
//
//   fuzz_operators --seed S --sets N        the sets S .. S + N - 1
//   fuzz_operators --defect NAME            shows that a defect is found, see show_defect()
//
// Prints a line of JSON with counts. The first violation or report of a sanitizer ends the program
// with a non-zero exit code and names the seed of the set.
#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>

#include <sanitizer/common_interface_defs.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "checks.h"
#include "operators.h"
#include "random_set.h"

// abort_on_error: a report raises SIGABRT, whose handler below names the set.
// malloc_fill_byte: bytes of 255 are NaN in every dtype, so that an element that no kernel has
// written is found by the check of the range.
extern "C" const char* __asan_default_options() {
  return "abort_on_error=1:malloc_fill_byte=255:max_malloc_fill_size=1073741824";
}
extern "C" const char* __ubsan_default_options() { return "abort_on_error=1:print_stacktrace=1"; }

namespace {

using namespace fuzz;

volatile unsigned long long current_seed = 0;

// A failed assertion of the standard library shows no stack by itself.
void on_abort(int) {
  __sanitizer_print_stack_trace();
  std::fprintf(stderr, "fuzz: in the set of seed %llu\n", current_seed);
  std::_Exit(1);
}

struct Counts {
  int64_t sets = 0, bad_index = 0, not_finite = 0, channels_last = 0;
};

void run_set(const std::vector<Operator>& operators, uint64_t seed, Counts& counts) {
  current_seed = seed;
  at::set_num_threads(seed % 4 == 0 ? 2 : 1);
  const RandomSet set = draw_set(seed);
  check_argmax(set);
  counts.sets += 1;
  counts.bad_index += set.bad_roi.has_value();
  counts.not_finite += !set.finite;
  counts.channels_last += set.input.is_contiguous(at::MemoryFormat::ChannelsLast);
  if (set.bad_roi) {
    for (const Operator& op : operators) check_raises(op, set);
    return;
  }
  std::map<std::string, Tensor> results;
  for (const Operator& op : operators) {
    const Tensor result = op.call(op.features(set), set);
    check_shape(op, set, result);
    if (set.finite) {
      check_magnitude(op, set, result);
      check_layout_does_not_matter(op, set, result);
    }
    results[op.name] = result;
  }
  check_inlay(operators[0], set, results["roi_inlay"]);
  if (!set.finite) return;
  check_adjoint(operators[0], set, results["roi_inlay"], results["roi_inlay_backward"]);
  check_adjoint(operators[2], set, results["roi_upsample"], results["roi_upsample_backward"]);
  check_adjoint(operators[4], set, results["roi_align_backward"], results["roi_align"]);
}

// Provokes a report in the operators' own code, or a violation, to show that neither passes
// unnoticed.
void show_defect(const std::vector<Operator>& operators, const std::string& name) {
  const Operator& inlay = operators[0];
  const std::vector<int64_t> shape = {1, 3, 4, 5};
  const auto memory = std::make_unique<float[]>(1 * 3 * 4 * 5);
  RandomSet set{};
  set.input = at::from_blob(memory.get(), shape);
  set.grad = at::ones({1, 3, 9, 9});
  set.rois = at::tensor({0.0, 0.0, 0.0, 9.0, 9.0}).view({1, 5});
  set.spatial_scale = 1;
  set.finite = true;
  if (name == "input-too-short") {
    set.input = at::from_blob(memory.get() + 1, shape);
  } else if (name == "misaligned-input") {
    set.input = at::from_blob(reinterpret_cast<char*>(memory.get()) + 1, shape);
  } else if (name != "wrong-output") {
    throw std::invalid_argument(
        "--defect must be input-too-short, misaligned-input or wrong-output, got " + name);
  }
  Tensor output = inlay.call(set.input, set);
  output[0][0][0][0] = kNaN;
  check_inlay(inlay, set, output);
}

std::string argument(int count, char** values, const std::string& name, const char* otherwise) {
  for (int i = 1; i + 1 < count; i += 2) {
    if (values[i] == name) return values[i + 1];
  }
  return otherwise;
}

}  // namespace

int main(int count, char** values) {
  std::signal(SIGABRT, on_abort);
  try {
    const auto operators = find_operators();
    const std::string defect = argument(count, values, "--defect", "");
    if (!defect.empty()) show_defect(operators, defect);
    const uint64_t seed = std::stoull(argument(count, values, "--seed", "0"));
    const uint64_t sets = std::stoull(argument(count, values, "--sets", "1000"));
    Counts counts;
    for (uint64_t i = 0; i < sets; ++i) run_set(operators, seed + i, counts);
    std::printf(
        "{\"sets\": %ld, \"bad_index\": %ld, \"not_finite\": %ld, \"channels_last\": %ld}\n",
        counts.sets, counts.bad_index, counts.not_finite, counts.channels_last);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fuzz: %s\nfuzz: in the set of seed %llu\n", error.what(), current_seed);
    return 1;
  }
  return 0;
}

// The largest of the values seen so far and its channel, lane by lane in vectors of the target's
// own size: GCC compares larger ones element by element.
//
// Values are offered from the last channel to the first, so that the first of equal ones wins. NaN
// compares as false: it never wins.
#pragma once

#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <type_traits>

#include "simd.h"

namespace mmbanet {

// An integer of the size of T: what lanes of T are numbered with.
template <typename T>
using IntOf = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;

// Values and channels are scalars, or vectors of as many lanes.
template <typename Values, typename Channels>
MMBANET_INLINE void offer(const Values& value, const Channels& channel, Values& best,
                          Channels& best_channel) {
  const auto wins = value >= best;
  best = wins ? value : best;
  best_channel = wins ? channel : best_channel;
}

// Combines all lanes. choose(a, b) takes scalars and vectors.
template <typename T, typename Values, typename Choose>
MMBANET_INLINE T reduce(const Values& values, const Choose& choose) {
#if defined(__GNUC__)
  if constexpr (sizeof(Values) > 16) {
    using HalfVector = typename VectorOf<T, sizeof(Values) / 2>::type;
    HalfVector low, high;
    std::memcpy(&low, &values, sizeof(HalfVector));
    std::memcpy(&high, reinterpret_cast<const char*>(&values) + sizeof(HalfVector),
                sizeof(HalfVector));
    return reduce<T>(HalfVector(choose(low, high)), choose);
  }
#endif
  T lanes[sizeof(Values) / sizeof(T)];
  std::memcpy(lanes, &values, sizeof(Values));
  T chosen = lanes[0];
  for (size_t i = 1; i < sizeof(Values) / sizeof(T); ++i) chosen = choose(chosen, lanes[i]);
  return chosen;
}

// Over the channels of one pixel, a vector of consecutive ones at a time.
template <typename acc_t, typename Target>
class ChannelMax {
 public:
  using Values = Vector<acc_t, Target>;
  using Channel = IntOf<acc_t>;
  using Channels = Vector<Channel, Target>;
  static constexpr int64_t kCount = sizeof(Values) / sizeof(acc_t);

  // channels: a multiple of kCount.
  MMBANET_INLINE explicit ChannelMax(int64_t channels) {
    best_ += -std::numeric_limits<acc_t>::infinity();
    best_channel_ += kNone;
    channel_ = load_vector<Channels, Channel>(kNumbers) + Channel(channels);
  }

  // Called for the last vector first.
  MMBANET_INLINE void offer_previous(const Values& value) {
    channel_ -= Channel(kCount);
    offer(value, channel_, best_, best_channel_);
  }

  // 0 if all values were NaN.
  MMBANET_INLINE int32_t channel() const {
    const auto larger = [](const auto& a, const auto& b)
                            MMBANET_INLINE_LAMBDA { return a > b ? a : b; };
    const auto smaller = [](const auto& a, const auto& b)
                             MMBANET_INLINE_LAMBDA { return a < b ? a : b; };
    const acc_t best = reduce<acc_t>(best_, larger);
    const auto is_best = best_ == Values{} + best;
    const Channels candidates = is_best ? best_channel_ : Channels{} + kNone;
    const Channel channel = reduce<Channel>(candidates, smaller);
    return channel == kNone ? 0 : static_cast<int32_t>(channel);
  }

 private:
  static constexpr Channel kNone = std::numeric_limits<Channel>::max();
  static constexpr Channel kNumbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  static_assert(kCount <= std::size(kNumbers));

  Values best_ = {};
  Channels best_channel_ = {};
  Channels channel_;
};

}  // namespace mmbanet

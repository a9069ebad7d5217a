// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace vpatch {

/// How long a VM stood still, by the STOP and RESUME events of its monitor and QEMU's own stamps.
class StopTimes {
 public:
  /// Events that QEMU has stamped earlier than `since`, since the Unix epoch, are of an earlier
  /// pause and came late.
  explicit StopTimes(std::chrono::microseconds since = {}) : since_(since) {}

  /// To be told all events in order. `stamp` is since the Unix epoch, zero where QEMU had none.
  void note(std::string_view event, std::chrono::microseconds stamp) {
    if (stamp.count() > 0 && stamp < since_) {
      return;
    }
    if (event == "STOP") {
      stopped_ = stamp;
      resumed_.reset();
    } else if (event == "RESUME" && stopped_) {
      by_others_ = by_others_ || !asked_ || (stamp.count() > 0 && stamp < *asked_);
      resumed_ = resumed_.value_or(stamp);
    }
  }

  /// To be told before this program asks for the resume that ends the newest stop; only the first
  /// time counts.
  void asking(std::chrono::microseconds now) { asked_ = asked_.value_or(now); }

  /// Whether a RESUME came after the newest STOP: the one that was asked for, if one was.
  bool complete() const {
    return resumed_ && (!asked_ || resumed_->count() <= 0 || *resumed_ >= *asked_);
  }

  /// Whether a RESUME came, after a STOP, that this program had not asked for.
  bool resumed_by_others() const { return by_others_; }

  /// The stamp that QEMU would give an event now.
  static std::chrono::microseconds now() {
    return std::chrono::duration_cast<std::chrono::microseconds>(
        std::chrono::system_clock::now().time_since_epoch());
  }

  /// From the newest STOP to the RESUME after it. Nothing until that came, or when the stamps make
  /// no sense: the host's clock was set meanwhile.
  std::optional<std::chrono::microseconds> length() const {
    if (!resumed_ || stopped_->count() <= 0 || *resumed_ < *stopped_) {
      return std::nullopt;
    }
    return *resumed_ - *stopped_;
  }

 private:
  std::chrono::microseconds since_;
  std::optional<std::chrono::microseconds> stopped_;
  std::optional<std::chrono::microseconds> resumed_;
  std::optional<std::chrono::microseconds> asked_;
  bool by_others_ = false;
};

}  // namespace vpatch

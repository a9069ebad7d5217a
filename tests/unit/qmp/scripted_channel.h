// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <boost/json.hpp>

#include "qmp/channel.h"

namespace vpatch::qmp {

/// A channel that answers from a list, in order, and records what it was asked.
class ScriptedChannel final : public Channel {
 public:
  struct Sent {
    std::string command;
    boost::json::object arguments;
    CallOptions options;
  };

  ScriptedChannel& then(std::string_view json_text) {
    answers_.emplace_back(boost::json::parse({json_text.data(), json_text.size()}));
    return *this;
  }
  ScriptedChannel& then_fail(Errc code, std::string what = "scripted",
                             std::string error_class = "") {
    answers_.emplace_back(std::unexpected(
        Error{.code = code, .what = std::move(what), .error_class = std::move(error_class)}));
    return *this;
  }

  Result<boost::json::value> execute(std::string_view command, boost::json::object arguments,
                                     const CallOptions& options) override {
    sent.push_back(
        {.command = std::string(command), .arguments = std::move(arguments), .options = options});
    if (sent.size() > answers_.size()) {
      return std::unexpected(Error{.code = Errc::closed, .what = "the script has ended"});
    }
    return answers_[sent.size() - 1];
  }

  std::vector<std::string> commands() const {
    std::vector<std::string> names;
    names.reserve(sent.size());
    for (const Sent& one : sent) {
      names.push_back(one.command);
    }
    return names;
  }

  std::vector<Sent> sent;

 private:
  std::vector<Result<boost::json::value>> answers_;
};

}  // namespace vpatch::qmp

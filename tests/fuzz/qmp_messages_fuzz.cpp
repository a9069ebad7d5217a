// SPDX-License-Identifier: Apache-2.0
// What a monitor or a guest agent says, of any bytes: single messages, and whole replies to the
// agent's commands.
#include <string>

#include "qmp/base64.h"
#include "qmp/event.h"
#include "qmp/guest_agent.h"
#include "qmp/message.h"
#include "tests/fuzz/fuzz_input.h"

namespace vpatch::fuzz {
namespace {

/// Answers each command with the next line of the input.
class Lines final : public qmp::Channel {
 public:
  explicit Lines(std::string_view text) : text_(text) {}

  qmp::Result<boost::json::value> execute(std::string_view command,
                                          boost::json::object /*arguments*/,
                                          const qmp::CallOptions& /*options*/) override {
    if (text_.empty()) {
      return std::unexpected(qmp::Error{.code = qmp::Errc::closed, .what = "no more lines"});
    }
    const auto line = text_.substr(0, text_.find('\n'));
    text_.remove_prefix(std::min(text_.size(), line.size() + 1));
    auto message = qmp::parse_message(line, {});
    if (!message) {
      return std::unexpected(message.error());
    }
    return qmp::reply_outcome(command, *message);
  }

 private:
  std::string_view text_;
};

void look_at_message(std::string_view text) {
  auto message = qmp::parse_message(text, {.max_bytes = 4096, .max_depth = 16, .max_values = 256});
  if (!message) {
    return;
  }
  static_cast<void>(qmp::string_member(*message, "id"));
  static_cast<void>(qmp::int_member(*message, "id", -5, 1'000'000));
  auto copy = *message;
  static_cast<void>(qmp::parse_event(copy));
  static_cast<void>(qmp::format_command("guest-exec", *message, 7, {}));
  static_cast<void>(qmp::reply_outcome("guest-exec", *message));
}

void fuzz_one(std::span<const std::byte> bytes) {
  Input input(bytes);
  const auto kind = input.take<char>();
  const auto text = text_of(input.rest());
  Lines lines(text);
  qmp::GuestAgent agent(lines);
  const qmp::CallOptions options{.timeout = std::chrono::milliseconds(0), .stop = {}};
  switch (kind) {
    case 'i':
      static_cast<void>(agent.info(options));
      break;
    case 'r':
      static_cast<void>(agent.read_file("/file", 4096, options));
      break;
    case 'w':
      static_cast<void>(agent.write_file("/file", Bytes(70'000), options));
      break;
    case 'e':
      static_cast<void>(agent.exec({.path = "/bin/true", .arguments = {}, .input = {}}, options));
      break;
    case 'b':
      if (const auto plain = qmp::base64_decode(text)) {
        if (qmp::base64_encode(std::as_bytes(std::span(*plain))) != text) {
          std::abort();  // only one text stands for these bytes
        }
      }
      break;
    default:
      look_at_message(text);
  }
}

}  // namespace

std::vector<Bytes> seeds() {
  std::vector<Bytes> all;
  for (
      const std::string_view text :
      {R"(m{"return": {}, "id": 7})",
       R"(m{"error": {"class": "GenericError", "desc": "no"}, "id": 7})",
       R"(m{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP", "data": {"a": [1, 2.5]}})",
       R"(i{"return": {"version": "7.2", "supported_commands": [{"enabled": true, "name": "guest-exec"}]}})",
       "r{\"return\": 1000}\n{\"return\": {\"count\": 3, \"buf-b64\": \"YWJj\", \"eof\": true}}\n"
       "{\"return\": {}}\n",
       "w{\"return\": 1000}\n{\"return\": {\"count\": 49152, \"eof\": false}}\n{\"return\": "
       "{\"count\": "
       "20848, \"eof\": false}}\n{\"return\": {}}\n{\"return\": {}}\n",
       "e{\"return\": {\"pid\": 7}}\n{\"return\": {\"exited\": true, \"exitcode\": 0, "
       "\"out-data\": "
       "\"YWJj\"}}\n",
       "bYWJj", "bYQ=="}) {
    all.push_back(to_bytes(text));
  }
  return all;
}

}  // namespace vpatch::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vpatch::fuzz::fuzz_one(vpatch::fuzz::bytes_of(data, size));
  return 0;
}

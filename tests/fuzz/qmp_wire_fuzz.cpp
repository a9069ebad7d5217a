// SPDX-License-Identifier: Apache-2.0
// A monitor that sends anything over its socket, in pieces of any size, while commands wait.
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <sys/socket.h>
#include <unistd.h>

#include "qmp/client.h"
#include "tests/fuzz/fuzz_input.h"

namespace vpatch::fuzz {
namespace {

constexpr std::string_view kGreeting =
    R"({"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": []}})"
    "\r\n";

void fuzz_one(std::span<const std::byte> bytes) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    std::abort();
  }
  Input input(bytes);
  const auto shape = input.take<std::uint8_t>();
  boost::asio::io_context io;
  int told = 0;
  {
    qmp::Client client(io.get_executor(), {.max_bytes = 8192, .max_depth = 16, .max_values = 512});
    client.on_event([](const qmp::Event&) {});
    client.on_closed([](const qmp::Error&) {});
    const qmp::CallOptions options{.timeout = std::chrono::seconds(20), .stop = {}};
    client.async_adopt(ends[0], options, [&](auto&&) { ++told; });
    const auto send = [&](std::string_view text) {
      static_cast<void>(::send(ends[1], text.data(), text.size(), MSG_NOSIGNAL));
      io.restart();
      io.poll();
    };
    const bool handshake = (shape & 1U) != 0;
    if (handshake) {
      send(kGreeting);
      send("{\"return\": {}, \"id\": 1}\r\n");
      for (const char* const name : {"query-status", "stop"}) {
        client.async_execute(name, {}, options, [&](auto&&) { ++told; });
      }
    }
    while (!input.rest().empty()) {
      send(text_of(input.take_bytes(input.take<std::uint16_t>() % 4096U + 1)));
    }
    ::close(ends[1]);
    io.restart();
    io.poll();
    client.close();
    io.restart();
    io.poll();
    if (told != (handshake ? 3 : 1)) {
      std::abort();  // each handler is called exactly once
    }
  }
}

}  // namespace

std::vector<Bytes> seeds() {
  const auto message = [](Output& output, std::string_view text) {
    output.put(static_cast<std::uint16_t>(text.size() - 1)).put_bytes(to_bytes(text));
  };
  Output greeting;
  greeting.put<std::uint8_t>(0);
  message(greeting, kGreeting);
  message(greeting, "{\"return\": {}, \"id\": 1}\r\n");
  Output replies;
  replies.put<std::uint8_t>(1);
  message(replies,
          "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"STOP\"}\r\n");
  message(replies, "{\"return\": {\"status\": \"running\"}, \"id\": 2}\r\n{\"return\"");
  message(replies, ": {}, \"id\": 3}\r\n");
  Output error;
  error.put<std::uint8_t>(1);
  message(error, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": 2}\r\n");
  return {greeting.take(), replies.take(), error.take()};
}

}  // namespace vpatch::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vpatch::fuzz::fuzz_one(vpatch::fuzz::bytes_of(data, size));
  return 0;
}

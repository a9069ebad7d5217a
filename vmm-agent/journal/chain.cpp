// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/journal/chain.h"

#include <array>
#include <optional>
#include <stdexcept>
#include <utility>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <openssl/evp.h>

namespace vpatch {
namespace {

namespace json = boost::json;

constexpr int kFormat = 1;
constexpr std::size_t kLongestLine = std::size_t{64} << 20;
static_assert(kMaxDetail < kLongestLine / 2);
constexpr std::int64_t kMostEntries = std::int64_t{1} << 52;

std::string quoted(std::string_view text) {
  return json::serialize(json::value(json::string(text)));
}

/// What a line of an export says of the chain.
struct ReadLine {
  bool closing = false;
  std::int64_t number = 0;  ///< the entry's link; of the closing line, how many there are
  std::string hash;         ///< of the line before
};

std::optional<ReadLine> read_line(const std::string& text) {
  if (text.size() > kLongestLine) {
    return std::nullopt;
  }
  json::parse_options options;
  options.allow_invalid_utf8 = true;  // names in a guest may be any bytes
  boost::system::error_code error;
  const json::value value = json::parse(text, error, {}, options);
  if (error || !value.is_object()) {
    return std::nullopt;
  }
  const json::object& object = value.get_object();
  const json::value* const link = object.if_contains("link");
  const json::value* const entries = object.if_contains("entries");
  const json::value* const hash = object.if_contains(link != nullptr ? "previous" : "head");
  if (hash == nullptr || !hash->is_string()) {
    return std::nullopt;
  }
  const bool closing = link == nullptr;
  const json::value* const number = closing ? entries : link;
  if (number == nullptr || !number->is_int64() || number->get_int64() < (closing ? 0 : 1) ||
      number->get_int64() > kMostEntries) {
    return std::nullopt;
  }
  return ReadLine{closing, number->get_int64(), std::string(hash->get_string())};
}

/// False at the end. What is longer than kLongestLine is cut after it.
bool next_line(std::istream& lines, std::string& line) {
  line.clear();
  std::streambuf& buffer = *lines.rdbuf();
  using Traits = std::streambuf::traits_type;
  auto next = buffer.sbumpc();
  if (Traits::eq_int_type(next, Traits::eof())) {
    return false;
  }
  for (; !Traits::eq_int_type(next, Traits::eof()); next = buffer.sbumpc()) {
    const char c = Traits::to_char_type(next);
    if (c == '\n') {
      break;
    }
    if (line.size() <= kLongestLine) {
      line += c;
    }
  }
  return true;
}

/// Takes the lines one after the other.
class ExportVerifier {
 public:
  void take(const std::string& text) {
    ++number_;
    if (closed_) {
      result_.add(fmt::format("line {} comes after the closing line", number_));
      return;
    }
    const auto line = read_line(text);
    if (!line) {
      result_.add(fmt::format("line {} is no entry of a journal", number_));
    } else if (line->closing) {
      close(*line);
    } else {
      entry(*line, text);
    }
  }

  Verification finish() {
    if (!closed_) {
      result_.add("the closing line is missing: the file was cut off");
    }
    return std::move(result_);
  }

 private:
  void entry(const ReadLine& line, const std::string& text) {
    if (line.number < next_) {
      result_.add(fmt::format("line {}: entry {} is not in its place", number_, line.number));
      return;
    }
    if (line.number > next_) {
      missing(line.number - 1, fmt::format("before line {}", number_));
    } else if (line.hash != result_.head) {
      changed_before();
    }
    result_.head = hash_of(text);
    ++result_.entries;
    next_ = line.number + 1;
  }

  void close(const ReadLine& line) {
    closed_ = true;
    if (line.number >= next_) {
      missing(line.number, "at the end");
    } else if (line.number < next_ - 1) {
      result_.add(fmt::format("the closing line tells of {} entries only", line.number));
    } else if (line.hash != result_.head) {
      changed_before();
    }
  }

  void missing(std::int64_t last, std::string_view where) {
    result_.add(last == next_ ? fmt::format("entry {} is missing {}", last, where)
                              : fmt::format("entries {} to {} are missing {}", next_, last, where));
  }

  void changed_before() {
    result_.add(next_ == 1 ? "the first line does not begin a journal"
                           : fmt::format("entry {} was changed", next_ - 1));
  }

  Verification result_;
  std::uint64_t number_ = 0;
  std::int64_t next_ = 1;
  bool closed_ = false;
};

}  // namespace

void Verification::add(std::string problem) {
  if (problems.size() < kMostProblems) {
    problems.push_back(std::move(problem));
  } else {
    ++more_problems;
  }
}

std::string line_of(const ChainEntry& entry, std::string_view previous) {
  return fmt::format(
      R"({{"link":{},"operation":{},"sequence":{},"at":{},"kind":{},"detail":{},"previous":{}}})",
      entry.link, entry.operation, entry.sequence, quoted(entry.at), quoted(entry.kind),
      entry.detail, quoted(previous));
}

std::string closing_line(std::uint64_t entries, std::string_view head) {
  return fmt::format(R"({{"format":{},"entries":{},"head":{}}})", kFormat, entries, quoted(head));
}

std::string hash_of(std::string_view line) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  if (EVP_Digest(line.data(), line.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1) {
    throw std::runtime_error("OpenSSL cannot compute SHA-256");
  }
  std::string text;
  text.reserve(2 * std::size_t{size});
  for (unsigned int index = 0; index < size; ++index) {
    text += fmt::format("{:02x}", digest[index]);
  }
  return text;
}

Verification verify_export(std::istream& lines) {
  ExportVerifier verifier;
  for (std::string line; next_line(lines, line);) {
    verifier.take(line);
  }
  return verifier.finish();
}

}  // namespace vpatch

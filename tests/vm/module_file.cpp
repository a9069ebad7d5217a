// SPDX-License-Identifier: Apache-2.0
#include "tests/vm/module_file.h"

#include <cstring>
#include <stdexcept>
#include <utility>
#include <vector>

#include <elf.h>

#include "tests/vm/subprocess.h"

namespace vpatch::test {
namespace {

template <class T>
T value_at(const std::string& bytes, std::size_t offset) {
  if (offset > bytes.size() || sizeof(T) > bytes.size() - offset) {
    throw std::runtime_error("the module is cut off");
  }
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

void run_or_throw(const std::vector<std::string>& argv) {
  const ProcessResult result = run(argv);
  if (result.exit_code != 0) {
    throw std::runtime_error(argv.at(0) + ": " + result.err);
  }
}

}  // namespace

ModuleFile::Section ModuleFile::section(std::string_view name) const {
  const auto header = value_at<Elf64_Ehdr>(bytes_, 0);
  const auto place = [&](std::size_t index) { return header.e_shoff + index * sizeof(Elf64_Shdr); };
  const auto names = value_at<Elf64_Shdr>(bytes_, place(header.e_shstrndx));
  for (std::size_t index = 0; index < header.e_shnum; ++index) {
    const auto section = value_at<Elf64_Shdr>(bytes_, place(index));
    if (name == bytes_.data() + names.sh_offset + section.sh_name) {
      return {place(index), section.sh_offset, section.sh_size};
    }
  }
  throw std::runtime_error("the module has no section " + std::string(name));
}

ModuleFile& ModuleFile::put(std::size_t offset, std::uint64_t value, std::size_t size) {
  for (std::size_t byte = 0; byte < size; ++byte) {
    bytes_.at(offset + byte) = static_cast<char>((value >> (8 * byte)) & 0xff);
  }
  return *this;
}

ModuleFile& ModuleFile::replace(std::string_view old, std::string_view text) {
  std::size_t at = bytes_.find(old);
  if (at == std::string::npos || old.size() != text.size()) {
    throw std::runtime_error("the module has no " + std::string(old));
  }
  for (; at != std::string::npos; at = bytes_.find(old, at)) {
    bytes_.replace(at, old.size(), text);
  }
  return *this;
}

ModuleFile& ModuleFile::append(std::string_view text) {
  bytes_ += text;
  return *this;
}

SigningKey::SigningKey(std::string folder, const std::string& name)
    : folder_(std::move(folder)), stem_(folder_ + "/" + name) {
  run_or_throw({"openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
                "/CN=" + name, "-keyout", stem_ + ".key", "-out", certificate()});
}

std::string SigningKey::sign(const std::string& module, const std::string& signed_bytes) const {
  const std::string content = folder_ + "/content";
  const std::string signature_file = folder_ + "/signature";
  write_file(content, signed_bytes);
  run_or_throw({"openssl", "cms", "-sign", "-binary", "-noattr", "-nocerts", "-nosmimecap", "-md",
                "sha256", "-in", content, "-signer", certificate(), "-inkey", stem_ + ".key",
                "-outform", "DER", "-out", signature_file});
  const std::string signature = read_file(signature_file);
  constexpr char kPkcs7 = 2;
  // struct module_signature: the kind is its third byte, the length its last four, big-endian.
  std::string trailer(12, '\0');
  trailer[2] = kPkcs7;
  for (std::size_t byte = 0; byte < 4; ++byte) {
    trailer[11 - byte] = static_cast<char>((signature.size() >> (8 * byte)) & 0xff);
  }
  return module + signature + trailer + "~Module signature appended~\n";
}

}  // namespace vpatch::test

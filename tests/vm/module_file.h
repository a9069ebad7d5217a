// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace vpatch::test {

/// The bytes of a kernel module on the host, to be damaged or signed. All offsets are of the file.
/// Throws when what is asked for is not there: the files are our own.
class ModuleFile {
 public:
  explicit ModuleFile(std::string bytes) : bytes_(std::move(bytes)) {}

  struct Section {
    std::size_t header = 0;  ///< of its Elf64_Shdr
    std::size_t offset = 0;
    std::size_t size = 0;
  };
  Section section(std::string_view name) const;

  const std::string& bytes() const { return bytes_; }
  /// Overwrites `size` bytes with a little-endian number.
  ModuleFile& put(std::size_t offset, std::uint64_t value, std::size_t size);
  /// Puts `text` in the place of each occurrence of `old`, which is as long.
  ModuleFile& replace(std::string_view old, std::string_view text);
  ModuleFile& append(std::string_view text);

 private:
  std::string bytes_;
};

/// A key with a certificate of its own, made by the program openssl in a folder.
class SigningKey {
 public:
  SigningKey(std::string folder, const std::string& name);

  /// Path of the certificate, in PEM.
  std::string certificate() const { return stem_ + ".pem"; }
  /// The module with a signature of `signed_bytes` behind it, as the kernel's sign-file appends it.
  std::string sign(const std::string& module, const std::string& signed_bytes) const;
  std::string sign(const std::string& module) const { return sign(module, module); }

 private:
  std::string folder_;
  std::string stem_;
};

}  // namespace vpatch::test

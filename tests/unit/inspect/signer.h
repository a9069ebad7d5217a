// SPDX-License-Identifier: Apache-2.0
// Keys, certificates and signatures, made while a test runs.
#pragma once

#include <memory>
#include <string>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "tests/unit/inspect/elf_builder.h"

namespace vpatch::test {

struct SignOptions {
  const char* digest = "SHA256";
  bool by_key_id = false;     ///< name the signer by its key, not by issuer and serial number
  bool attributes = false;    ///< sign attributes that hold the content's digest
  bool keep_content = false;  ///< put the content into the message too
  bool twice = false;         ///< two signers, both this one
  bool other_type = false;    ///< say that the content is something else than data
};

/// A key of its own with a self-signed certificate.
class Signer {
 public:
  /// The serial number is `serial` with `zero_bits` behind it.
  explicit Signer(const std::string& name, unsigned long serial = 1, int zero_bits = 0);

  std::string pem() const;
  Bytes der() const;
  /// The PKCS#7 message over `content`, as scripts/sign-file makes it.
  Bytes message(const Bytes& content, const SignOptions& options = {}) const;
  /// `elf` with its signature appended.
  Bytes sign(const Bytes& elf, const SignOptions& options = {}) const;

 private:
  std::shared_ptr<EVP_PKEY> key_;
  std::shared_ptr<X509> certificate_;
};

/// `elf` with `message` appended as its signature.
Bytes with_message(Bytes elf, const Bytes& message);

}  // namespace vpatch::test

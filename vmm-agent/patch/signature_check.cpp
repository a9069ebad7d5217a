// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/patch/signature_check.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <span>
#include <utility>

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "vmm-agent/patch/byte_view.h"
#include "vmm-agent/patch/file_reader.h"
#include "vmm-agent/patch/modinfo.h"
#include "vmm-agent/patch/module_signature.h"

namespace vpatch {
namespace {

constexpr std::size_t kMaxCertificateFile = std::size_t{1} << 20;
constexpr std::size_t kMaxCertificates = 1000;
/// Of a key's id or a serial number; the kernel's tools make 20 bytes at most.
constexpr std::size_t kMaxIdText = 128;
constexpr std::size_t kMaxNameText = 512;

template <auto release>
struct Release {
  template <class T>
  void operator()(T* object) const {
    release(object);
  }
};
using X509Ptr = std::unique_ptr<X509, Release<X509_free>>;
using CmsPtr = std::unique_ptr<CMS_ContentInfo, Release<CMS_ContentInfo_free>>;
using BioPtr = std::unique_ptr<BIO, Release<BIO_free>>;
using NumberPtr = std::unique_ptr<BIGNUM, Release<BN_free>>;
/// Only the stack; the certificates in it belong to somebody else.
using X509Stack =
    std::unique_ptr<STACK_OF(X509), decltype([](STACK_OF(X509) * stack) { sk_X509_free(stack); })>;

/// OpenSSL keeps errors for the thread until somebody takes them.
struct ErrorsTaken {
  ~ErrorsTaken() { ERR_clear_error(); }
};

BioPtr memory_bio(ByteView bytes) {
  return BioPtr(BIO_new_mem_buf(bytes.bytes().data(), static_cast<int>(bytes.size())));
}

std::string text_of(const X509_NAME* name) {
  const BioPtr out(BIO_new(BIO_s_mem()));
  if (!out || X509_NAME_print_ex(out.get(), name, 0, XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB) < 0) {
    return "?";
  }
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  const std::string_view whole(text, static_cast<std::size_t>(std::max(size, 0L)));
  return displayable(whole.substr(0, kMaxNameText));
}

std::string hex_id(const ASN1_STRING* id) {
  const std::span bytes(ASN1_STRING_get0_data(id),
                        static_cast<std::size_t>(ASN1_STRING_length(id)));
  std::string text;
  for (const unsigned char byte : bytes.first(std::min(bytes.size(), kMaxIdText / 2))) {
    text += fmt::format("{:02x}", byte);
  }
  return bytes.size() > kMaxIdText / 2 ? text + "..." : text;
}

std::string text_of(const ASN1_INTEGER* serial) {
  if (std::cmp_greater(ASN1_STRING_length(serial), kMaxIdText / 2)) return hex_id(serial);
  const NumberPtr number(ASN1_INTEGER_to_BN(serial, nullptr));
  char* const digits = number ? BN_bn2hex(number.get()) : nullptr;
  std::string text = digits == nullptr ? "?" : digits;
  OPENSSL_free(digits);
  return text;
}

std::string signer_of(CMS_SignerInfo* signer) {
  ASN1_OCTET_STRING* key = nullptr;
  X509_NAME* issuer = nullptr;
  ASN1_INTEGER* serial = nullptr;
  if (CMS_SignerInfo_get0_signer_id(signer, &key, &issuer, &serial) != 1) return "?";
  if (issuer != nullptr && serial != nullptr) {
    return fmt::format("{}, serial {}", text_of(issuer), text_of(serial));
  }
  return key == nullptr ? "?" : "key " + hex_id(key);
}

bool is_strong(CMS_SignerInfo* signer) {
  X509_ALGOR* digest = nullptr;
  CMS_SignerInfo_get0_algs(signer, nullptr, nullptr, &digest, nullptr);
  const ASN1_OBJECT* object = nullptr;
  if (digest != nullptr) X509_ALGOR_get0(&object, nullptr, nullptr, digest);
  const int kind = object == nullptr ? NID_undef : OBJ_obj2nid(object);
  constexpr auto kStrong =
      std::to_array({NID_sha256, NID_sha384, NID_sha512, NID_sha3_256, NID_sha3_384, NID_sha3_512});
  return std::ranges::find(kStrong, kind) != kStrong.end();
}

SignatureCheck malformed(const std::string& what) {
  return {.state = SignatureState::malformed, .signer = {}, .detail = "the signature " + what};
}

/// The message's form, as the kernel wants it (pkcs7_verify()): one signature over the content
/// itself, which is plain data outside of the message.
std::optional<std::string> wrong_form(CMS_ContentInfo* message) {
  if (OBJ_obj2nid(CMS_get0_type(message)) != NID_pkcs7_signed) return "is no signed data";
  if (OBJ_obj2nid(CMS_get0_eContentType(message)) != NID_pkcs7_data) return "is not of plain data";
  if (CMS_is_detached(message) != 1) return "holds content of its own";
  STACK_OF(CMS_SignerInfo)* const signers = CMS_get0_SignerInfos(message);
  if (signers == nullptr || sk_CMS_SignerInfo_num(signers) != 1) return "has not one signer";
  CMS_SignerInfo* const signer = sk_CMS_SignerInfo_value(signers, 0);
  if (CMS_signed_get_attr_count(signer) >= 0) {  // -1 without any
    return "has signed attributes, which the kernel does not take";
  }
  if (!is_strong(signer)) return "uses a digest that is broken";
  return std::nullopt;
}

}  // namespace

struct Certificates::Impl {
  std::vector<X509Ptr> list;
};

Certificates::Certificates() : impl_(std::make_unique<Impl>()) {}
Certificates::Certificates(Certificates&&) noexcept = default;
Certificates& Certificates::operator=(Certificates&&) noexcept = default;
Certificates::~Certificates() = default;

bool Certificates::empty() const {
  return impl_->list.empty();
}

Result<void> Certificates::add(const std::filesystem::path& path) {
  const ErrorsTaken errors;
  const auto refuse = [&](const std::string& why) {
    return std::unexpected(
        Error{Outcome::refused, fmt::format("certificate {}: {}", path.string(), why),
              "Give X.509 certificates as PEM or DER files.", "bad-certificate"});
  };
  std::error_code failure;
  if (std::filesystem::is_directory(path, failure)) {
    std::vector<std::filesystem::path> files;
    for (auto entry = std::filesystem::directory_iterator(path, failure);
         !failure && entry != std::filesystem::directory_iterator(); entry.increment(failure)) {
      if (files.size() == kMaxCertificates) return refuse("too many files in the folder");
      if (entry->is_regular_file(failure)) files.push_back(entry->path());
    }
    if (failure) return refuse(failure.message());
    if (files.empty()) return refuse("an empty folder");
    std::ranges::sort(files);
    for (const auto& file : files) {
      if (auto done = add(file); !done) return done;
    }
    return {};
  }
  const auto bytes = read_regular_file(path, kMaxCertificateFile);
  if (!bytes) return refuse(bytes.error().what);
  const ByteView view(*bytes);
  auto& list = impl_->list;
  const std::size_t before = list.size();
  const BioPtr pem = memory_bio(view);
  while (X509* certificate = PEM_read_bio_X509(pem.get(), nullptr, nullptr, nullptr)) {
    list.emplace_back(certificate);
    if (list.size() > kMaxCertificates) return refuse("too many certificates");
  }
  if (list.size() == before) {
    const auto* data = reinterpret_cast<const unsigned char*>(bytes->data());
    if (X509* certificate = d2i_X509(nullptr, &data, static_cast<long>(bytes->size()))) {
      list.emplace_back(certificate);
    }
  } else if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
    return refuse("one of its certificates is damaged");  // else it was the end of the file
  }
  if (list.size() == before) return refuse("not a certificate");
  return {};
}

std::string_view finding_id(SignatureState state) {
  switch (state) {
    case SignatureState::unchecked:
      return "signature-unchecked";
    case SignatureState::good:
      return "signature-good";
    case SignatureState::wrong_key:
      return "signature-wrong-key";
    case SignatureState::tampered:
      return "signature-tampered";
    case SignatureState::malformed:
      return "signature-malformed";
    case SignatureState::missing:
      break;
  }
  return "signature-missing";
}

SignatureCheck check_signature(std::span<const std::byte> file, const Certificates& trusted) {
  const ErrorsTaken errors;
  const ByteView view(file);
  const auto found = find_module_signature(view);
  if (!found) {
    return {.state = SignatureState::malformed, .signer = {}, .detail = found.error().what};
  }
  const auto& signature = *found;
  if (!signature) return {};
  const auto content = view.slice(0, signature->begin);
  const auto bytes = view.slice(signature->begin, signature->size);
  if (!content || !bytes || content->size() > std::numeric_limits<int>::max()) {
    return malformed("lies outside of the file");
  }
  const auto* start = reinterpret_cast<const unsigned char*>(bytes->bytes().data());
  const auto* at = start;
  const CmsPtr message(d2i_CMS_ContentInfo(nullptr, &at, static_cast<long>(bytes->size())));
  if (!message) return malformed("is no PKCS#7 message");
  if (at != start + bytes->size()) return malformed("has bytes after its end");
  if (const auto wrong = wrong_form(message.get())) return malformed(*wrong);

  CMS_SignerInfo* const signer = sk_CMS_SignerInfo_value(CMS_get0_SignerInfos(message.get()), 0);
  SignatureCheck check{
      .state = SignatureState::wrong_key, .signer = signer_of(signer), .detail = {}};
  if (trusted.empty()) {
    check.state = SignatureState::unchecked;
    check.detail =
        fmt::format("signed by {}, and no certificate is given to check that", check.signer);
    return check;
  }
  const X509Stack candidates(sk_X509_new_null());
  bool known = false;
  for (const X509Ptr& certificate : trusted.impl_->list) {
    if (CMS_SignerInfo_cert_cmp(signer, certificate.get()) == 0) {
      known = candidates && sk_X509_push(candidates.get(), certificate.get()) > 0;
      break;
    }
  }
  if (!known) {
    check.detail = fmt::format(
        "the module is signed by {}, which is none of the given certificates", check.signer);
    return check;
  }
  // The certificate is trusted as it is; what else the message may carry is not used.
  constexpr unsigned kFlags = CMS_NO_SIGNER_CERT_VERIFY | CMS_NOINTERN | CMS_BINARY;
  const BioPtr data = memory_bio(*content);
  if (data &&
      CMS_verify(message.get(), candidates.get(), nullptr, data.get(), nullptr, kFlags) == 1) {
    check.state = SignatureState::good;
    return check;
  }
  check.state = SignatureState::tampered;
  check.detail = fmt::format(
      "the signature of {} is not over this content: one of them was changed", check.signer);
  return check;
}

}  // namespace vpatch

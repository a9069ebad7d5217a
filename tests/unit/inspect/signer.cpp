// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/inspect/signer.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/cms.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "tests/unit/inspect/livepatch_builder.h"

namespace vpatch::test {
namespace {

using BioPtr = std::unique_ptr<BIO, decltype([](BIO* bio) { BIO_free(bio); })>;
using NumberPtr = std::unique_ptr<BIGNUM, decltype([](BIGNUM* number) { BN_free(number); })>;
using CmsPtr =
    std::unique_ptr<CMS_ContentInfo, decltype([](CMS_ContentInfo* c) { CMS_ContentInfo_free(c); })>;

void must(bool worked, const char* what) {
  if (!worked) throw std::runtime_error(what);
}

Bytes contents(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return to_bytes(std::string_view(data, static_cast<std::size_t>(size)));
}

}  // namespace

Signer::Signer(const std::string& name, unsigned long serial, int zero_bits)
    : key_(EVP_EC_gen("P-256"), EVP_PKEY_free), certificate_(X509_new(), X509_free) {
  X509* const certificate = certificate_.get();
  must(key_ && certificate, "key");
  const NumberPtr number(BN_new());
  must(number && BN_set_word(number.get(), serial) == 1 &&
           BN_lshift(number.get(), number.get(), zero_bits) == 1 &&
           BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr,
       "serial number");
  X509_set_version(certificate, X509_VERSION_3);
  X509_NAME* const subject = X509_get_subject_name(certificate);
  must(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                                  reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1,
                                  0) == 1,
       "name");
  X509_set_issuer_name(certificate, subject);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -7200);
  X509_gmtime_adj(X509_getm_notAfter(certificate), -3600);  // expired: the kernel does not mind
  X509_set_pubkey(certificate, key_.get());
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* const key_id =
      X509V3_EXT_conf_nid(nullptr, &context, NID_subject_key_identifier, "hash");
  must(key_id != nullptr && X509_add_ext(certificate, key_id, -1) == 1, "key id");
  X509_EXTENSION_free(key_id);
  must(X509_sign(certificate, key_.get(), EVP_sha256()) > 0, "certificate");
}

std::string Signer::pem() const {
  const BioPtr out(BIO_new(BIO_s_mem()));
  must(PEM_write_bio_X509(out.get(), certificate_.get()) == 1, "pem");
  const Bytes bytes = contents(out.get());
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Bytes Signer::der() const {
  const BioPtr out(BIO_new(BIO_s_mem()));
  must(i2d_X509_bio(out.get(), certificate_.get()) == 1, "der");
  return contents(out.get());
}

Bytes Signer::message(const Bytes& content, const SignOptions& options) const {
  const unsigned all = CMS_NOCERTS | CMS_BINARY | CMS_PARTIAL | CMS_STREAM |
                       (options.keep_content ? 0U : unsigned{CMS_DETACHED});
  const CmsPtr cms(CMS_sign(nullptr, nullptr, nullptr, nullptr, all));
  if (options.other_type) {
    must(CMS_set1_eContentType(cms.get(), OBJ_nid2obj(NID_id_smime_ct_TSTInfo)) == 1, "type");
  }
  const unsigned flags = CMS_NOCERTS | CMS_BINARY | CMS_NOSMIMECAP |
                         (options.by_key_id ? unsigned{CMS_USE_KEYID} : 0U) |
                         (options.attributes ? 0U : unsigned{CMS_NOATTR});
  const BioPtr data(BIO_new_mem_buf(content.data(), static_cast<int>(content.size())));
  const EVP_MD* const digest = EVP_get_digestbyname(options.digest);
  must(cms && data && digest != nullptr, "message");
  for (int signer = 0; signer < (options.twice ? 2 : 1); ++signer) {
    must(CMS_add1_signer(cms.get(), certificate_.get(), key_.get(), digest, flags) != nullptr,
         "signer");
  }
  must(CMS_final(cms.get(), data.get(), nullptr, CMS_NOCERTS | CMS_BINARY) == 1, "signature");
  const BioPtr out(BIO_new(BIO_s_mem()));
  must(i2d_CMS_bio(out.get(), cms.get()) == 1, "encoding");
  return contents(out.get());
}

Bytes Signer::sign(const Bytes& elf, const SignOptions& options) const {
  return with_message(elf, message(elf, options));
}

Bytes with_message(Bytes elf, const Bytes& message) {
  const std::size_t at = elf.size();
  Bytes file = append_signature(std::move(elf), static_cast<std::uint32_t>(message.size()));
  std::ranges::copy(message, file.begin() + static_cast<std::ptrdiff_t>(at));
  return file;
}

}  // namespace vpatch::test

// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/serve/domain_list.h"

#include <cstdlib>
#include <filesystem>

#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/journal/journal_support.h"
#include "vmm-agent/domain/domain_groups.h"
#include "vmm-agent/domain/libvirt_connection.h"

namespace vpatch::serve {
namespace {

// libvirt's test driver, which needs no daemon, has one domain that "runs".
TEST(ListDomains, ListsADomainWhoseKernelCannotBeRead) {
  const auto list = list_domains("test:///default", {});
  ASSERT_TRUE(list) << list.error().what;
  EXPECT_EQ(list->at("connection"), "test:///default");
  const auto& domains = list->at("domains").as_array();
  ASSERT_EQ(domains.size(), 1U);
  EXPECT_EQ(domains[0].at("name"), "test");
  EXPECT_EQ(domains[0].at("identity"), "6695eb01-f6a4-8304-79aa-97f2502e193f");
  EXPECT_EQ(domains[0].at("state"), "running");
  EXPECT_EQ(domains[0].at("running"), true);
  EXPECT_EQ(domains[0].at("groups").as_array().size(), 0U);
  EXPECT_TRUE(domains[0].at("release").is_null());
  EXPECT_TRUE(domains[0].at("build_id").is_null());
  EXPECT_TRUE(domains[0].at("last_release").is_null());
  EXPECT_TRUE(domains[0].at("unknown").is_string());
}

class ListOfDomainThatIsOff : public JournalTest {
 public:
  ~ListOfDomainThatIsOff() override { unsetenv("VPATCH_JOURNAL"); }

 protected:
  ListOfDomainThatIsOff() {
    setenv("VPATCH_JOURNAL", file().c_str(), 1);
    const auto domain = find_domain(connection_.get(), kUri, "test").value();
    EXPECT_EQ(virDomainDestroy(domain.get()), 0);
  }

  static boost::json::object entry() {
    return list_domains(kUri, {}).value().at("domains").as_array().at(0).as_object();
  }

  static constexpr const char* kUri = "test:///default";
  ConnectionHandle connection_ = open_connection(kUri, {}).value();
};

TEST_F(ListOfDomainThatIsOff, HasTheKernelThatTheJournalSawLast) {
  OperationStart start = some_start();
  start.identity = "6695eb01-f6a4-8304-79aa-97f2502e193f";
  start.guest_release = "6.1.0-56-cloud-amd64";
  ASSERT_TRUE(open().begin(start));
  const auto listed = entry();
  EXPECT_EQ(listed.at("state"), "shut off");
  EXPECT_EQ(listed.at("running"), false);
  EXPECT_TRUE(listed.at("release").is_null());
  EXPECT_EQ(listed.at("last_release"), "6.1.0-56-cloud-amd64");
  EXPECT_TRUE(listed.at("unknown").is_null());
}

TEST_F(ListOfDomainThatIsOff, MakesNoJournal) {
  EXPECT_TRUE(entry().at("last_release").is_null());
  EXPECT_FALSE(std::filesystem::exists(file()));
}

TEST(ListDomains, HasGroupsThatAreHarmlessToPrint) {
  const auto connection = open_connection("test:///default", {}).value();
  const auto domain = find_domain(connection.get(), "test:///default", "test").value();
  ASSERT_EQ(virDomainSetMetadata(domain.get(), VIR_DOMAIN_METADATA_ELEMENT,
                                 "<groups><group>a&#127;b</group><group>web</group></groups>", "v",
                                 kMetadataUri, VIR_DOMAIN_AFFECT_LIVE),
            0);
  const auto list = list_domains("test:///default", {}).value();
  EXPECT_EQ(list.at("domains").as_array().at(0).at("groups"), (boost::json::array{"a?b", "web"}));
}

TEST(ListDomains, FailsWhereLibvirtIsNotThere) {
  const auto list = list_domains("qemu+unix:///system?socket=/nonexistent", {});
  ASSERT_FALSE(list);
  EXPECT_EQ(list.error().outcome, Outcome::unreachable);
}

}  // namespace
}  // namespace vpatch::serve

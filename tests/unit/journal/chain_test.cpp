// SPDX-License-Identifier: Apache-2.0
#include "vmm-agent/journal/chain.h"

#include <sstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace vpatch {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// An export of five entries: six lines.
std::vector<std::string> five_entries() {
  std::vector<std::string> lines;
  std::string head(kNoHash);
  for (int link = 1; link <= 5; ++link) {
    lines.push_back(line_of({.link = link,
                             .operation = 1,
                             .sequence = link,
                             .at = "2026-11-21T09:41:23.000017Z",
                             .kind = "step",
                             .detail = R"({"text":"done"})"},
                            head));
    head = hash_of(lines.back());
  }
  lines.push_back(closing_line(5, head));
  return lines;
}

Verification verify(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) {
    text += line + "\n";
  }
  std::istringstream stream(text);
  return verify_export(stream);
}

void replace(std::string& text, const std::string& what, const std::string& by) {
  text.replace(text.find(what), what.size(), by);
}

TEST(Chain, HashIsTheOneOfSha256sum) {
  EXPECT_EQ(hash_of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Chain, EachLineHoldsTheHashOfTheOneBefore) {
  const auto lines = five_entries();
  EXPECT_THAT(lines[0], HasSubstr(std::string(kNoHash)));
  for (std::size_t index = 1; index < lines.size(); ++index) {
    EXPECT_THAT(lines[index], HasSubstr(hash_of(lines[index - 1])));
  }
}

TEST(Chain, WholeExportIsSound) {
  const Verification found = verify(five_entries());
  EXPECT_THAT(found.problems, IsEmpty());
  EXPECT_EQ(found.entries, 5U);
  EXPECT_EQ(found.head, hash_of(five_entries()[4]));
}

TEST(Chain, ExportOfAnEmptyJournalIsSound) {
  EXPECT_THAT(verify({closing_line(0, kNoHash)}).problems, IsEmpty());
}

TEST(Chain, ChangedEntryIsFound) {
  for (std::size_t index = 0; index < 5; ++index) {
    auto lines = five_entries();
    replace(lines[index], "done", "Done");
    EXPECT_THAT(verify(lines).problems,
                ElementsAre("entry " + std::to_string(index + 1) + " was changed"));
  }
}

TEST(Chain, ASpaceMoreIsAChange) {
  auto lines = five_entries();
  lines[2] += " ";
  EXPECT_THAT(verify(lines).problems, ElementsAre("entry 3 was changed"));
}

TEST(Chain, ChangedEntryWithItsHashPutRightIsFoundAtTheNext) {
  auto lines = five_entries();
  const std::string before = hash_of(lines[2]);
  replace(lines[2], "done", "Done");
  replace(lines[3], before, hash_of(lines[2]));
  EXPECT_THAT(verify(lines).problems, ElementsAre("entry 4 was changed"));
}

TEST(Chain, RemovedEntryIsFound) {
  for (std::size_t index = 0; index < 4; ++index) {
    auto lines = five_entries();
    lines.erase(lines.begin() + static_cast<std::ptrdiff_t>(index));
    EXPECT_THAT(verify(lines).problems,
                ElementsAre("entry " + std::to_string(index + 1) + " is missing before line " +
                            std::to_string(index + 1)));
  }
}

TEST(Chain, RemovedEntriesAtTheEndAreFound) {
  auto lines = five_entries();
  lines.erase(lines.begin() + 3, lines.begin() + 5);
  EXPECT_THAT(verify(lines).problems, ElementsAre("entries 4 to 5 are missing at the end"));
}

TEST(Chain, CutOffFileIsFound) {
  auto lines = five_entries();
  lines.pop_back();
  EXPECT_THAT(verify(lines).problems, ElementsAre(HasSubstr("the closing line is missing")));
  lines[4].resize(40);
  EXPECT_THAT(verify(lines).problems,
              ElementsAre("line 5 is no entry of a journal", HasSubstr("closing line is missing")));
  EXPECT_THAT(verify({}).problems, ElementsAre(HasSubstr("closing line is missing")));
}

TEST(Chain, ClosingLineOfSomethingElseIsFound) {
  auto lines = five_entries();
  lines[5] = closing_line(5, kNoHash);
  EXPECT_THAT(verify(lines).problems, ElementsAre("entry 5 was changed"));
  lines[5] = closing_line(3, kNoHash);
  EXPECT_THAT(verify(lines).problems, ElementsAre("the closing line tells of 3 entries only"));
}

TEST(Chain, EntriesPutInAreFound) {
  auto lines = five_entries();
  lines.insert(lines.begin() + 2, lines[1]);
  EXPECT_THAT(verify(lines).problems, ElementsAre("line 3: entry 2 is not in its place"));
  lines = five_entries();
  lines.push_back(lines[1]);
  EXPECT_THAT(verify(lines).problems, ElementsAre("line 7 comes after the closing line"));
}

TEST(Chain, ExchangedEntriesAreFound) {
  auto lines = five_entries();
  std::swap(lines[1], lines[2]);
  EXPECT_THAT(verify(lines).problems, ElementsAre("entry 2 is missing before line 2",
                                                  "line 3: entry 2 is not in its place"));
}

TEST(Chain, HostileLinesAreNoEntries) {
  for (const char* line :
       {"", "text", "[]", "{}", R"({"link":1})", R"({"link":"1","previous":"x"})",
        R"({"link":0,"previous":"x"})", R"({"link":-9223372036854775808,"previous":"x"})",
        R"({"link":9223372036854775807,"previous":"x"})", R"({"link":1e300,"previous":"x"})",
        R"({"entries":-1,"head":"x"})", R"({"entries":1,"head":1})", "\xff\xfe"}) {
    auto lines = five_entries();
    lines.insert(lines.begin() + 1, line);
    EXPECT_THAT(verify(lines).problems, ElementsAre("line 2 is no entry of a journal")) << line;
  }
}

TEST(Chain, OfManyProblemsTheFirstAreKept) {
  const Verification found = verify(std::vector<std::string>(250, "text"));
  EXPECT_EQ(found.problems.size(), Verification::kMostProblems);
  EXPECT_EQ(found.problems.size() + found.more_problems, 251U);
}

}  // namespace
}  // namespace vpatch

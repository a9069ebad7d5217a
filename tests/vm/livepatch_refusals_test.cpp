// SPDX-License-Identifier: Apache-2.0
// Bad livepatches and bad moments: each with its finding, its exit code, and a guest that is as
// before.
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/vm/livepatch_fixture.h"
#include "tests/vm/module_file.h"

namespace vpatch::test {
namespace {

using testing::HasSubstr;

constexpr int kRefused = 3;
constexpr int kRestored = 7;

struct Bad {
  std::string name;
  std::function<std::string()> file;  ///< bytes of the livepatch
  int exit_code = kRefused;
  std::string id{};       ///< of the finding; empty where it is the kernel that refuses
  std::string message{};  ///< a part of what it says
  std::function<void()> prepare = [] {};
  std::function<std::vector<std::string>()> options = [] { return std::vector<std::string>(); };
  std::string undo = "true";  ///< script for the guest, where its usual cleaning is not enough
};

void PrintTo(const Bad& bad, std::ostream* out) {
  *out << bad.name;
}

ModuleFile module_file(const std::string& name) {
  return ModuleFile(read_file(module_path(name)));
}

/// Makes the bytes of one of our modules, as it is.
std::function<std::string()> plain(const std::string& name) {
  return [name] { return module_file(name).bytes(); };
}

std::function<std::vector<std::string>()> with_options(const std::vector<std::string>& options) {
  return [options] { return options; };
}

/// A folder of this program with two keys.
const std::string& folder() {
  static const std::string path = [] {
    std::string name = std::filesystem::temp_directory_path() / "vpatch-refusals-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) {
      throw std::runtime_error("mkdtemp failed");
    }
    return name;
  }();
  return path;
}
const SigningKey& trusted_key() {
  static const SigningKey key(folder(), "trusted");
  return key;
}
const SigningKey& other_key() {
  static const SigningKey key(folder(), "other");
  return key;
}
std::string demo() {
  return module_file("vpatch_demo_v1").bytes();
}

class Refusal : public LivepatchTest, public testing::WithParamInterface<Bad> {
 public:
  static std::vector<Bad> all();
  static void TearDownTestSuite() { std::filesystem::remove_all(folder()); }

 private:
  static std::vector<Bad> damaged_files();
  static std::vector<Bad> wrong_signatures();
  static std::vector<Bad> wrong_kernels_and_names();
  static std::vector<Bad> wrong_functions();
  static std::vector<Bad> wrong_states();
  static std::vector<Bad> bad_moments();

  /// A situation in which that livepatch is in force.
  static std::function<void()> with(const std::string& patch) {
    return [patch] {
      const Answer answer = apply_patch(patch);
      ASSERT_EQ(answer.exit_code, 0) << answer;
    };
  }
};

std::vector<Bad> Refusal::damaged_files() {
  const auto half = [] { return demo().substr(0, demo().size() / 2); };
  // Overwrites a field of the last relocation of the data: the address of a new function.
  const auto relocation = [](std::size_t field, std::uint64_t value, std::size_t size) {
    return [=] {
      ModuleFile file = module_file("vpatch_demo_v1");
      const auto table = file.section(".rela.data");
      return file.put(table.offset + table.size - 24 + field, value, size).bytes();
    };
  };
  // The first one is the patch's own module; another address there makes the kernel crash.
  const auto another_owner = [] {
    ModuleFile file = module_file("vpatch_demo_v1");
    return file.put(file.section(".rela.data").offset + 16, 8, 8).bytes();
  };
  return {
      {.name = "Empty", .file = [] { return std::string(); }, .id = "bad-file", .message = "empty"},
      {.name = "NotElf",
       .file = [] { return std::string(5000, 'x'); },
       .id = "bad-file",
       .message = "ELF"},
      {.name = "ForAnotherMachine",
       .file = [] { return ModuleFile(demo()).put(18, 183, 2).bytes(); },
       .id = "bad-file",
       .message = "AArch64"},
      {.name = "NoLivepatch",
       .file = plain("vpatch_notlp"),
       .id = "bad-file",
       .message = "not a livepatch"},
      {.name = "CutInHalf", .file = half, .id = "bad-file", .message = "refused"},
      {.name = "TrailingGarbage",
       .file = [] { return demo() + "garbage"; },
       .id = "trailing-garbage",
       .message = "7 trailing bytes"},
      {.name = "SectionTableOutsideTheFile",
       .file = [] { return ModuleFile(demo()).put(40, 1U << 30, 8).bytes(); },
       .id = "bad-file",
       .message = "refused"},
      {.name = "RelocationOutsideItsSection",
       .file = relocation(0, 0x7fffffff, 8),
       .id = "corrupt-module",
       .message = "outside"},
      {.name = "RelocationOfNoSymbol",
       .file = relocation(12, 0xffffff, 4),
       .id = "corrupt-module",
       .message = "names no symbol"},
      {.name = "PatchThatBelongsToNoModule",
       .file = another_owner,
       .id = "corrupt-module",
       .message = "klp_patch.mod"},
      {.name = "RelocationThatMakesNoPointer",
       .file = relocation(8, 2, 4),  // R_X86_64_PC32
       .id = "corrupt-module",
       .message = "does not make a pointer"},
      {.name = "NamedDifferentlyInside",
       .file =
           [] {
             return ModuleFile(demo())
                 .replace("name=vpatch_demo_v1", "name=vpatch_demo_v9")
                 .bytes();
           },
       .id = "bad-file",
       .message = "not in its struct module"},
  };
}

std::vector<Bad> Refusal::wrong_signatures() {
  const auto policy = [] {
    return std::vector<std::string>{"--require-signed", "--cert", trusted_key().certificate()};
  };
  return {
      {.name = "NotSigned", .file = demo, .id = "signature-missing", .options = policy},
      {.name = "SignedByAnotherKey",
       .file = [] { return other_key().sign(demo()); },
       .id = "signature-wrong-key",
       .options = policy},
      {.name = "SignatureOfOtherContent",
       .file = [] { return trusted_key().sign(demo(), demo() + " "); },
       .id = "signature-tampered",
       .options = policy},
      {.name = "GarbageBehindTheSignature",
       .file = [] { return trusted_key().sign(demo()) + "garbage"; },
       .id = "signature-trailing-garbage",
       .options = policy},
  };
}

std::vector<Bad> Refusal::wrong_kernels_and_names() {
  return {
      {.name = "ForAnotherKernel",
       .file =
           [] {
             return read_file(module_path("vpatch_demo_v1", kernel() == "6.1" ? "6.12" : "6.1"));
           },
       .id = "kernel-release"},
      {.name = "ForASiblingBuildOfTheKernel",
       .file =
           [] {
             return ModuleFile(demo()).replace("-cloud-amd64 SMP", "-clout-amd64 SMP").bytes();
           },
       .id = "kernel-release"},
      {.name = "ForAKernelWithOtherOptions",
       .file = [] { return ModuleFile(demo()).replace(" mod_unload ", " mod_unloaf ").bytes(); },
       .exit_code = kRestored,
       .message = "the kernel refused the module"},
      {.name = "NamedAsAModuleThatIsLoaded",
       .file =
           [] {
             return module_file("vpatch_indep").replace("vpatch_indep", "vpatch_guest").bytes();
           },
       .id = "name-in-use"},
      {.name = "AnotherBuildOfAPatchInForce",
       .file =
           [] {
             ModuleFile file = module_file("vpatch_indep");
             const auto note = file.section(".note.gnu.build-id");
             return file.put(note.offset + note.size - 4, 0x12345678, 4).bytes();
           },
       .id = "same-name-other-build",
       .prepare = with("vpatch_indep")},
      {.name = "NeedsASymbolThatNobodyExports",
       .file = [] { return ModuleFile(demo()).replace("seq_printf", "seq_prantf").bytes(); },
       .exit_code = kRestored,
       .message = "the kernel refused the module"},
  };
}

std::vector<Bad> Refusal::wrong_functions() {
  const auto twins = [] { insmod("vpatch_twins"); };
  return {
      {.name = "NoSuchFunction", .file = plain("vpatch_refused"), .id = "symbol-missing"},
      {.name = "NoFunctionAtThatPosition",
       .file = plain("vpatch_refused_position"),
       .id = "symbol-position"},
      {.name = "SeveralFunctionsOfThatName",
       .file = plain("vpatch_refused_ambiguous"),
       .id = "symbol-ambiguous"},
      {.name = "NoFunctionAtThatPositionInAModule",
       .file = plain("vpatch_twins_lp3"),
       .id = "symbol-position",
       .prepare = twins},
      {.name = "SeveralFunctionsOfThatNameInAModule",
       .file = plain("vpatch_twins_lp0"),
       .id = "symbol-ambiguous",
       .prepare = twins},
      {.name = "FunctionChangedByAnotherPatch",
       .file = plain("vpatch_indep2"),
       .id = "function-conflict",
       .prepare = with("vpatch_indep")},
  };
}

std::vector<Bad> Refusal::wrong_states() {
  return {
      {.name = "StateListedTwice", .file = plain("vpatch_cum_twice"), .id = "duplicate-state"},
      {.name = "OlderStateThanInForce",
       .file = plain("vpatch_cum_v1"),
       .id = "state-older",
       .prepare = with("vpatch_cum_v2"),
       .options = with_options({"--allow-downgrade"})},
      {.name = "LacksAStateInForce",
       .file = plain("vpatch_demo_v1"),
       .id = "state-missing",
       .prepare = with("vpatch_demo_v2"),
       .options = with_options({"--allow-downgrade"})},
  };
}

std::vector<Bad> Refusal::bad_moments() {
  return {
      {.name = "WhileATransitionRuns",
       .file = plain("vpatch_indep"),
       .id = "busy-transition",
       .prepare =
           [] {
             block();
             ASSERT_EQ(apply_patch("vpatch_target_lp", {"--timeout", "0", "--on-stall", "wait"})
                           .exit_code,
                       5);
           }},
      {.name = "KprobeOnTheFunction",
       .file = plain("vpatch_indep"),
       .id = "kprobe-conflict",
       .prepare = [] { insmod("vpatch_kprobe"); },
       .undo = "/sbin/rmmod vpatch_kprobe"},
      {.name = "FtraceSwitchedOff",
       .file = plain("vpatch_indep"),
       .id = "ftrace-off",
       .prepare = [] { vm().guest("echo 0 >/proc/sys/kernel/ftrace_enabled"); },
       .undo = "echo 1 >/proc/sys/kernel/ftrace_enabled"},
      {.name = "PrePatchCallbackFails",
       .file = plain("vpatch_callbacks_fail"),
       .exit_code = kRestored,
       .message = "No such device"},
      {.name = "NoRoomInTheGuest",
       .file =
           [] {
             const std::string path = padded_module("vpatch_indep", std::size_t{1} << 20);
             std::string bytes = read_file(path);
             std::filesystem::remove(path);
             return bytes;
           },
       .exit_code = kRestored,
       .message = "No space left",
       .prepare = [] { vm().guest("mount -o remount,size=512k /run"); },
       .undo = "mount -o remount,size=50% /run"},
      {.name = "TaskInTheFunctionAndNoTimeToWait",
       .file = plain("vpatch_target_lp"),
       .exit_code = 4,
       .message = "vpatch_target_block",
       .prepare = block,
       .options = with_options({"--timeout", "0"})},
  };
}

std::vector<Bad> Refusal::all() {
  std::vector<Bad> rows;
  for (const auto& part : {damaged_files(), wrong_signatures(), wrong_kernels_and_names(),
                           wrong_functions(), wrong_states(), bad_moments()}) {
    rows.insert(rows.end(), part.begin(), part.end());
  }
  return rows;
}

TEST_P(Refusal, LeavesTheGuestAsItWas) {
  const Bad& bad = GetParam();
  bad.prepare();
  const std::string before = vm().fingerprint();
  const std::string path = folder() + "/bad.ko";
  write_file(path, bad.file());
  std::vector<std::string> arguments = bad.options();
  arguments.push_back(path);

  const Answer answer = change("apply", arguments);

  EXPECT_EQ(answer.exit_code, bad.exit_code) << answer;
  EXPECT_TRUE(bad.id.empty() || answer.found(bad.id)) << answer;
  EXPECT_THAT(boost::json::serialize(answer.report), HasSubstr(bad.message));
  EXPECT_EQ(vm().fingerprint(), before);
  vm().guest(bad.undo);
  fmt::print("table | {} | {} | {} | {}\n", bad.name, answer.error_id(), answer.exit_code,
             text_of(answer.report, "summary"));
}

INSTANTIATE_TEST_SUITE_P(All, Refusal, testing::ValuesIn(Refusal::all()),
                         [](const auto& parameter) { return parameter.param.name; });

}  // namespace
}  // namespace vpatch::test

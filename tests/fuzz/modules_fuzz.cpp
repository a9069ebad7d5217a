// SPDX-License-Identifier: Apache-2.0
// Lists of the kernel: its modules with their type information, its livepatches, its kprobes.
#include "introspect/guest/blockers.h"
#include "introspect/kernel/kprobes.h"
#include "introspect/kernel/livepatch.h"
#include "introspect/kernel/modules.h"
#include "introspect/symbols/module_btf.h"
#include "tests/fuzz/fuzz_memory.h"
#include "tests/unit/kernel/fake_kernel_memory.h"
#include "tests/unit/symbols/btf_builder.h"

namespace vpatch::fuzz {
namespace {

using introspect::testing::BtfBuilder;
using introspect::testing::SparseVirtualMemory;

constexpr std::uint64_t kBase = 0xffff'8880'0000'0000;
constexpr std::array<Window, 1> kHeap = {{{kBase, 16384}}};
// Heads of lists at the start, then structures.
constexpr std::uint64_t kModules = kBase, kBtfModules = kBase + 16, kPatches = kBase + 32,
                        kOps = kBase + 48, kTransition = kBase + 64, kTarget = kBase + 72,
                        kSignals = kBase + 76, kMutex = kBase + 80;

introspect::ModuleLayout module_layout() {
  introspect::ModuleLayout layout;
  layout.modules = GuestVirtAddr(kModules);
  layout.size = 256;
  layout.state = 0;
  layout.list = 8;
  layout.name = 24;
  layout.name_size = 56;
  layout.taints = 80;
  layout.refcnt = 88;
  layout.livepatch = 92;
  layout.text = {{96, 104}, {112, 120}};
  layout.kallsyms = 128;
  layout.kallsyms_size = 32;
  layout.num_symtab = 8;
  layout.strtab = 16;
  layout.typetab = 24;
  layout.orc_count = 136;
  layout.orc_ips = 144;
  layout.orc_entries = 152;
  layout.notes = introspect::ModuleLayout::Notes{160, 8, 16, 64, 16, 24};
  return layout;
}

introspect::LivepatchLayout livepatch_layout() {
  introspect::LivepatchLayout layout;
  layout.patches = GuestVirtAddr(kPatches);
  layout.ops = GuestVirtAddr(kOps);
  layout.transition_patch = GuestVirtAddr(kTransition);
  layout.target_state = GuestVirtAddr(kTarget);
  layout.mutex = GuestVirtAddr(kMutex);
  layout.signals_count = GuestVirtAddr(kSignals);
  layout.patch_list = 8;
  layout.patch_obj_list = 24;
  layout.patch_enabled = 40;
  layout.patch_forced = 41;
  layout.patch_replace = 42;
  layout.patch_size = 64;
  layout.patch_states = 48;
  layout.state_version = 8;
  layout.state_size = 24;
  layout.object_func_list = 8;
  layout.object_node = 24;
  layout.object_patched = 40;
  layout.object_size = 48;
  layout.func_new_func = 8;
  layout.func_old_sympos = 16;
  layout.func_old_func = 24;
  layout.func_node = 32;
  layout.func_stack_node = 48;
  layout.func_old_size = 64;
  layout.func_new_size = 72;
  layout.func_nop = 80;
  layout.func_patched = 81;
  layout.func_transition = 82;
  layout.func_size = 88;
  layout.ops_func_stack = 16;
  layout.ops_size = 32;
  layout.module_name = 24;
  layout.module_name_size = 56;
  return layout;
}

BtfBuilder kernel_types() {
  BtfBuilder types;
  const auto number = types.integer("unsigned int", 4);
  const auto pointer = types.pointer(0);
  const auto list = types.structure("list_head", 16, {{"next", pointer, 0}, {"prev", pointer, 64}});
  types.structure("btf", 48, {{"data", pointer, 0}, {"data_size", number, 320}});
  types.structure(
      "btf_module", 40,
      {{"flags", pointer, 0}, {"list", list, 64}, {"module", pointer, 192}, {"btf", pointer, 256}});
  return types;
}

class Symbols final : public introspect::SymbolAddresses {
 public:
  introspect::Result<GuestVirtAddr> address_of(std::string_view name) const override {
    if (name == "btf_modules") {
      return GuestVirtAddr(kBtfModules);
    }
    return introspect::fail(introspect::Errc::not_found, "no such symbol");
  }
};

void look_at_modules(const FuzzMemory& memory) {
  static const auto layout = module_layout();
  static const auto kernel = introspect::Btf::parse(kernel_types().blob());
  const auto modules = introspect::read_modules(memory, layout);
  if (!modules || !kernel) {
    return;
  }
  for (std::size_t index = 0; index < std::min<std::size_t>(modules->size(), 8); ++index) {
    const introspect::Module& module = (*modules)[index];
    if (const auto symbols = introspect::ModuleSymbols::load(memory, module.symbols)) {
      static_cast<void>(symbols->at(GuestVirtAddr(kBase + 0x40)));
    }
    const auto types = introspect::module_btf(memory, *kernel, Symbols(), *kernel, module.address);
    if (types) {
      static_cast<void>(types->size_of("port"));
    }
  }
}

void look_at_livepatch(const FuzzMemory& memory) {
  static const auto layout = livepatch_layout();
  const auto state = introspect::read_livepatch(memory, layout);
  if (state) {
    if (state->transition && *state->transition >= state->patches.size()) {
      std::abort();
    }
    static_cast<void>(introspect::forbidden_now(*state));
  }
}

void look_at_kprobes(const FuzzMemory& memory) {
  const introspect::KprobeLayout layout{.table = GuestVirtAddr(kBase),
                                        .hlist = 0,
                                        .address = 16,
                                        .post_handler = 24,
                                        .flags = 32,
                                        .size = 40};
  static_cast<void>(introspect::read_kprobes(memory, layout));
}

void fuzz_one(std::span<const std::byte> bytes) {
  Input input(bytes);
  const auto what = input.take<std::uint8_t>() % 3;
  const FuzzMemory memory(kHeap, input);
  if (what == 0) {
    look_at_livepatch(memory);
  } else if (what == 1) {
    look_at_modules(memory);
  } else {
    look_at_kprobes(memory);
  }
}

Bytes kprobes_seed() {
  SparseVirtualMemory memory;
  const std::uint64_t probe = kBase + 0x400;
  memory.put(GuestVirtAddr(kBase + 8), probe);
  memory.put(GuestVirtAddr(probe), std::array<std::uint64_t, 5>{0, kBase + 8, kBase, kBase, 8});
  Output output;
  output.put<std::uint8_t>(2);
  put_memory(output, kHeap, memory);
  return output.take();
}

Bytes modules_seed() {
  const auto layout = module_layout();
  SparseVirtualMemory memory;
  const std::uint64_t first = kBase + 0x200, second = kBase + 0x400;
  introspect::testing::put_list(memory, kModules, {first + layout.list, second + layout.list});
  for (const std::uint64_t at : {first, second}) {
    memory.put_text(GuestVirtAddr(at + layout.name), "ext4");
    memory.put(GuestVirtAddr(at + 88), std::int32_t{1});
    memory.put(GuestVirtAddr(at + 96), kBase);
    memory.put(GuestVirtAddr(at + 104), std::uint32_t{0x100});
    memory.put(GuestVirtAddr(at + 128), kBase + 0x600);
    memory.put(GuestVirtAddr(at + 136), std::uint32_t{3});
    memory.put(GuestVirtAddr(at + 144), kBase + 0x700);
    memory.put(GuestVirtAddr(at + 152), kBase + 0x740);
    memory.put(GuestVirtAddr(at + 160), kBase + 0x800);
  }
  memory.put(GuestVirtAddr(kBase + 0x600),
             std::array<std::uint64_t, 4>{kBase + 0x640, 3, kBase + 0x6c0, kBase + 0x6e0});
  memory.put_text(GuestVirtAddr(kBase + 0x6c1), "init");
  memory.put(GuestVirtAddr(kBase + 0x640 + 24),
             std::array<std::uint64_t, 3>{0x1'0012'0000'0001, kBase + 0x20, 0x10});
  memory.put(GuestVirtAddr(kBase + 0x808), std::uint32_t{1});
  memory.put(GuestVirtAddr(kBase + 0x810 + 16), std::array<std::uint64_t, 2>{36, kBase + 0x880});
  memory.put(GuestVirtAddr(kBase + 0x880), std::array<std::uint32_t, 4>{4, 20, 3, 0x00554e47});
  // One entry on the list of type information: of the first module.
  const std::uint64_t entry = kBase + 0x900, btf = kBase + 0x940, data = kBase + 0xa00;
  introspect::testing::put_list(memory, kBtfModules, {entry + 8});
  memory.put(GuestVirtAddr(entry + 24), first);
  memory.put(GuestVirtAddr(entry + 32), btf);
  const BtfBuilder kernel = kernel_types();
  BtfBuilder own(kernel.next_type(), kernel.next_string());
  own.structure("port", 24, {});
  const auto blob = own.blob();
  memory.put(GuestVirtAddr(btf), data);
  memory.put(GuestVirtAddr(btf + 40), static_cast<std::uint32_t>(blob.size()));
  memory.write(GuestVirtAddr(data), blob);
  Output output;
  output.put<std::uint8_t>(1);
  put_memory(output, kHeap, memory);
  return output.take();
}

Bytes livepatch_seed(bool transition) {
  const auto layout = livepatch_layout();
  SparseVirtualMemory memory;
  const std::uint64_t patch = kBase + 0x200, object = kBase + 0x280, function = kBase + 0x300,
                      ops = kBase + 0x380, module = kBase + 0x400;
  introspect::testing::put_list(memory, kPatches, {patch + layout.patch_list});
  introspect::testing::put_list(memory, patch + layout.patch_obj_list,
                                {object + layout.object_node});
  introspect::testing::put_list(memory, object + layout.object_func_list,
                                {function + layout.func_node});
  introspect::testing::put_list(memory, kOps, {ops});
  introspect::testing::put_list(memory, ops + layout.ops_func_stack,
                                {function + layout.func_stack_node});
  memory.put(GuestVirtAddr(patch), module);
  memory.put_text(GuestVirtAddr(module + 24), "vpatch_demo_v1");
  memory.put(GuestVirtAddr(function), kBase + 0x500);
  memory.put_text(GuestVirtAddr(kBase + 0x500), "cmdline_proc_show");
  memory.put(GuestVirtAddr(function + layout.func_old_func), kBase + 0x600);
  memory.put(GuestVirtAddr(function + layout.func_new_func), kBase + 0x700);
  memory.put(GuestVirtAddr(function + layout.func_old_size), std::uint64_t{0x40});
  memory.put(GuestVirtAddr(function + layout.func_new_size), std::uint64_t{0x40});
  memory.put(GuestVirtAddr(function + layout.func_patched), std::uint8_t{1});
  memory.put(GuestVirtAddr(function + layout.func_transition), std::uint8_t{transition});
  memory.put(GuestVirtAddr(object + layout.object_patched), std::uint8_t{1});
  memory.put(GuestVirtAddr(patch + layout.patch_enabled), std::uint8_t{1});
  memory.put(GuestVirtAddr(patch + 48), kBase + 0x800);
  memory.put(GuestVirtAddr(kBase + 0x800), std::array<std::uint64_t, 3>{7, 1, 0});
  memory.put(GuestVirtAddr(kTransition), transition ? patch : std::uint64_t{0});
  memory.put(GuestVirtAddr(kTarget), std::int32_t{transition ? 1 : -1});
  Output output;
  output.put<std::uint8_t>(0);
  put_memory(output, kHeap, memory);
  return output.take();
}

}  // namespace

std::vector<Bytes> seeds() {
  return {modules_seed(), livepatch_seed(false), livepatch_seed(true), kprobes_seed()};
}

}  // namespace vpatch::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vpatch::fuzz::fuzz_one(vpatch::fuzz::bytes_of(data, size));
  return 0;
}

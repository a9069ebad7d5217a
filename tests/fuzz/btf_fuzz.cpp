// SPDX-License-Identifier: Apache-2.0
// Type information: a kernel's, and a module's on top of it.
#include "introspect/symbols/btf.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/unit/symbols/btf_builder.h"

namespace vpatch::fuzz {
namespace {

using introspect::Btf;
using introspect::BtfKind;
using introspect::testing::BtfBuilder;

void ask(const Btf& btf) {
  for (const std::string_view type : {"task_struct", "list_head", "u64", "any", ""}) {
    static_cast<void>(btf.size_of(type));
    for (const std::string_view path :
         {"pid", "inner", "list.next", "grid[1]", "grid[1][2]", "flags", "deep", "any", "", "[",
          "a..b", "grid[99999999999999999999]"}) {
      static_cast<void>(btf.member(type, path));
    }
  }
  for (const std::string_view name : {"FIRST", "LAST", ""}) {
    static_cast<void>(btf.enumerator(name));
  }
}

void fuzz_one(std::span<const std::byte> bytes) {
  Input input(bytes);
  const auto first = input.take_bytes(input.take<std::uint16_t>());
  const auto kernel = Btf::parse({first.begin(), first.end()});
  if (!kernel) {
    return;
  }
  ask(*kernel);
  const auto second = input.rest();
  if (const auto module = Btf::parse({second.begin(), second.end()}, &*kernel)) {
    ask(*module);
  }
}

BtfBuilder kernel_types() {
  BtfBuilder types;
  const auto number = types.integer("unsigned int", 4);
  const auto pointer = types.pointer(0);
  const auto list = types.structure("list_head", 16, {{"next", pointer, 0}, {"prev", pointer, 64}});
  const auto inner = types.structure("", 8, {{"deep", number, 0}}, BtfKind::union_type);
  const auto constant = types.refer(BtfKind::const_type, "", number);
  types.refer(BtfKind::type_definition, "u64", constant);
  const auto row = types.array(number, 4);
  const auto grid = types.array(row, 3);
  types.structure(
      "task_struct", 128,
      {{"pid", constant, 0}, {"list", list, 64}, {"", inner, 192}, {"grid", grid, 256}});
  types.bit_fields("any", 8, {{"flags", number, 3, 5}, {"any", number, 32, 1}});
  types.enumeration("order", {{"FIRST", -1}, {"SECOND", 7}});
  types.enumeration64("wide", {{"LAST", -1}});
  return types;
}

}  // namespace

std::vector<Bytes> seeds() {
  const BtfBuilder kernel = kernel_types();
  BtfBuilder module(kernel.next_type(), kernel.next_string());
  module.structure("u64", 24, {{"any", 1, 0}, {"list", 3, 64}});
  const Bytes base = kernel.blob();
  Output output;
  output.put(static_cast<std::uint16_t>(base.size())).put_bytes(base).put_bytes(module.blob());
  return {output.take()};
}

}  // namespace vpatch::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  vpatch::fuzz::fuzz_one(vpatch::fuzz::bytes_of(data, size));
  return 0;
}

#include "client/cli/elf_check.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "farwarp/base/unique_fd.h"

namespace farwarp::cli {
namespace {

constexpr std::uint64_t kMaxSections = 65536;
constexpr std::uint64_t kMaxTableBytes = 16 << 20;

// A file of which any part may be asked for and any part may be missing.
class ElfFile {
 public:
  explicit ElfFile(const std::string& path)
      : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    struct stat info{};
    if (fd_.valid() && ::fstat(fd_.get(), &info) == 0 && S_ISREG(info.st_mode))
      bytes_ = static_cast<std::uint64_t>(info.st_size);
  }

  template <typename T>
  bool Read(std::uint64_t offset, T* out, std::uint64_t count = 1) const {
    const std::uint64_t wanted = sizeof(T) * count;
    if (offset > bytes_ || wanted > bytes_ - offset) return false;
    return ::pread(fd_.get(), out, wanted, static_cast<off_t>(offset)) ==
           static_cast<ssize_t>(wanted);
  }

  // The section headers; the one of the names is first.
  std::optional<std::vector<Elf64_Shdr>> Sections() const {
    Elf64_Ehdr header{};
    if (!Read(0, &header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
        header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
        header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shoff == 0)
      return std::nullopt;
    std::uint64_t count = header.e_shnum;
    std::uint64_t names = header.e_shstrndx;
    Elf64_Shdr first{};
    if (!Read(header.e_shoff, &first)) return std::nullopt;
    if (count == 0) count = first.sh_size;  // More than fit the header.
    if (names == SHN_XINDEX) names = first.sh_link;
    if (count == 0 || count > kMaxSections || names >= count) return std::nullopt;
    std::vector<Elf64_Shdr> sections(count);
    if (!Read(header.e_shoff, sections.data(), count)) return std::nullopt;
    std::swap(sections[0], sections[names]);
    return sections;
  }

  std::optional<std::string> Table(const Elf64_Shdr& section) const {
    if (section.sh_size > kMaxTableBytes) return std::nullopt;
    std::string text(section.sh_size, '\0');
    if (!Read(section.sh_offset, text.data(), text.size())) return std::nullopt;
    return text;
  }

 private:
  UniqueFd fd_;
  std::uint64_t bytes_ = 0;
};

std::string_view NameAt(const std::string& table, std::uint64_t offset) {
  if (offset >= table.size()) return {};
  return table.c_str() + offset;
}

bool IsKernelSection(std::string_view name) {
  return name == ".nv_fatbin" || name == ".nvFatBinSegment" || name == "__nv_relfatbin";
}

// The names of the shared libraries that the program itself asks for.
std::vector<std::string> Needed(const ElfFile& file, const std::vector<Elf64_Shdr>& sections) {
  std::vector<std::string> libraries;
  const Elf64_Shdr* dynamic = nullptr;
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_type == SHT_DYNAMIC) dynamic = &section;
  }
  if (dynamic == nullptr || dynamic->sh_size > kMaxTableBytes) return libraries;
  std::vector<Elf64_Dyn> entries(dynamic->sh_size / sizeof(Elf64_Dyn));
  if (!file.Read(dynamic->sh_offset, entries.data(), entries.size())) return libraries;
  std::uint64_t strings_at = 0;
  for (const Elf64_Dyn& entry : entries) {
    if (entry.d_tag == DT_STRTAB) strings_at = entry.d_un.d_ptr;
  }
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_type != SHT_STRTAB || section.sh_addr != strings_at) continue;
    const auto table = file.Table(section);
    if (!table) break;
    for (const Elf64_Dyn& entry : entries) {
      if (entry.d_tag == DT_NULL) break;
      if (entry.d_tag == DT_NEEDED) libraries.emplace_back(NameAt(*table, entry.d_un.d_val));
    }
    break;
  }
  return libraries;
}

}  // namespace

CudaLinkage InspectProgram(const std::string& path) {
  const ElfFile file(path);
  const auto sections = file.Sections();
  if (!sections) return CudaLinkage::kUnknown;
  const auto names = file.Table(sections->front());
  if (!names) return CudaLinkage::kUnknown;
  bool kernels = false;
  for (const Elf64_Shdr& section : *sections)
    kernels = kernels || IsKernelSection(NameAt(*names, section.sh_name));
  if (!kernels) return CudaLinkage::kUnknown;
  for (const std::string& library : Needed(file, *sections)) {
    if (library.starts_with("libcudart.so") || library.starts_with("libcuda.so"))
      return CudaLinkage::kShared;
  }
  return CudaLinkage::kProbablyStatic;
}

}  // namespace farwarp::cli

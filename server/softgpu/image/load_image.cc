// LoadImage: recognises what a pointer or a file holds and takes the best PTX out of it.
#include <cstring>
#include <string_view>

#include "server/softgpu/image/fatbin.h"

namespace farwarp::softgpu {
namespace {

constexpr std::uint32_t kWrapperMagic = 0x466243B1;
constexpr std::uint32_t kContainerMagic = 0xBA55ED50;
constexpr std::uint32_t kElfMagic = 0x464C457F;
constexpr std::size_t kMaxContainers = 65536;
constexpr char kHowToBuild[] =
    ": build with PTX, for instance nvcc -gencode arch=compute_75,code=compute_75";

// The layout of a wrapper in this process's memory.
struct Wrapper {
  std::uint32_t magic;
  std::uint32_t version;
  const void* container;
  const void* const* linked;
};

std::uint32_t MagicAt(const void* image) {
  std::uint32_t magic;
  std::memcpy(&magic, image, sizeof magic);
  return magic;
}

LoadedImage Problem(ImageProblem problem, std::string message) {
  LoadedImage image;
  image.problem = problem;
  image.message = std::move(message);
  return image;
}

// Whether this text can be PTX at all: after comments and blanks its first directive is .version.
bool LooksLikePtx(std::string_view text) {
  while (!text.empty()) {
    const std::size_t first = text.find_first_not_of(" \t\r\n");
    if (first == std::string_view::npos) return false;
    text.remove_prefix(first);
    if (text.starts_with("//")) {
      const std::size_t end = text.find('\n');
      if (end == std::string_view::npos) return false;
      text.remove_prefix(end);
    } else if (text.starts_with("/*")) {
      const std::size_t end = text.find("*/", 2);
      if (end == std::string_view::npos) return false;
      text.remove_prefix(end + 2);
    } else {
      return text.starts_with(".");
    }
  }
  return false;
}

LoadedImage LoadText(std::string_view text) {
  if (!LooksLikePtx(text)) {
    return Problem(ImageProblem::kInvalid,
                   "the image is neither PTX text nor a fat binary (PTX begins with .version)");
  }
  LoadedImage image;
  image.from_text = true;
  image.ptx.push_back({"", std::string(text)});
  return image;
}

std::string Capability(int sm) {
  return std::to_string(sm / 10) + "." + std::to_string(sm % 10);
}

// Appends the text of an entry.
Status AddText(const CodeEntry& entry, LoadedImage* image) {
  Result<std::string> text = UnpackPtx(entry);
  if (!text.ok()) return text.status();
  image->ptx.push_back({entry.name, *std::move(text)});
  return Status::Ok();
}

// What cuLinkComplete made.
LoadedImage LoadLinked(std::span<const CodeEntry> entries, int sm) {
  LoadedImage image;
  image.linked = true;
  for (const CodeEntry& entry : entries) {
    if (entry.kind != CodeKind::kLinkedPtx) {
      return Problem(ImageProblem::kInvalid, "fatbin: a linked image with other code in it");
    }
    if (entry.sm > sm) {
      return Problem(ImageProblem::kNoBinary, "the image was linked for compute capability " +
                                                  Capability(entry.sm) + ", the device has " +
                                                  Capability(sm));
    }
    if (const Status added = AddText(entry, &image); !added.ok()) {
      return Problem(ImageProblem::kInvalid, added.message());
    }
  }
  return image;
}

LoadedImage LoadContainer(std::span<const std::byte> container, int sm) {
  Result<std::vector<CodeEntry>> entries = ParseContainer(container);
  if (!entries.ok()) return Problem(ImageProblem::kInvalid, entries.status().message());
  if (!entries->empty() && entries->front().kind == CodeKind::kLinkedPtx) {
    return LoadLinked(*entries, sm);
  }
  const CodeEntry* best = ChoosePtx(*entries, sm);
  if (best == nullptr) {
    return Problem(ImageProblem::kNoBinary, "the image has no PTX for compute capability " +
                                                Capability(sm) + " or lower: it offers " +
                                                DescribeCode(*entries) + kHowToBuild);
  }
  LoadedImage image;
  // PTX that needs linking may be whole by itself; if not, linking says what it lacks.
  image.linked = best->relocatable;
  if (const Status added = AddText(*best, &image); !added.ok()) {
    return Problem(ImageProblem::kInvalid, added.message());
  }
  return image;
}

// A container in this process, whose length its own header tells.
LoadedImage LoadContainerAt(const void* address, int sm) {
  const auto* bytes = static_cast<const std::byte*>(address);
  Result<std::uint64_t> length = ContainerBytes({bytes, 16});
  if (!length.ok()) return Problem(ImageProblem::kInvalid, length.status().message());
  return LoadContainer({bytes, *length}, sm);
}

LoadedImage LoadWrapper(const void* address, int sm) {
  Wrapper wrapper;
  std::memcpy(&wrapper, address, sizeof wrapper);
  if (wrapper.version == 2 && wrapper.linked != nullptr) {
    LoadedImage all;
    for (std::size_t i = 0; wrapper.linked[i] != nullptr; ++i) {
      if (i == kMaxContainers)
        return Problem(ImageProblem::kInvalid, "fatbin: too many containers");
      LoadedImage one = LoadContainerAt(wrapper.linked[i], sm);
      if (one.problem != ImageProblem::kNone) return one;
      all.linked = true;
      for (PtxText& text : one.ptx) all.ptx.push_back(std::move(text));
    }
    return all.ptx.empty() ? Problem(ImageProblem::kNoBinary, "the linked image is empty") : all;
  }
  if (wrapper.container == nullptr) {
    return Problem(ImageProblem::kInvalid, "fatbin: the wrapper points to nothing");
  }
  return LoadContainerAt(wrapper.container, sm);
}

LoadedImage MachineCode() {
  return Problem(ImageProblem::kNoBinary,
                 std::string("the image is machine code (a cubin) and the software GPU runs PTX") +
                     kHowToBuild);
}

}  // namespace

LoadedImage LoadImage(const void* image, int sm) {
  // Only as many bytes are read as the image is known to have: a text may be shorter than a magic.
  const char* text = static_cast<const char*>(image);
  if (text[0] == '\0' || text[1] == '\0' || text[2] == '\0' || text[3] == '\0') {
    return LoadText({text, std::strlen(text)});
  }
  switch (MagicAt(image)) {
    case kWrapperMagic:
      return LoadWrapper(image, sm);
    case kContainerMagic:
      return LoadContainerAt(image, sm);
    case kElfMagic:
      return MachineCode();
    default:
      return LoadText({text, std::strlen(text)});
  }
}

LoadedImage LoadImageBytes(std::span<const std::byte> image, int sm) {
  if (image.size() >= 4) {
    const std::uint32_t magic = MagicAt(image.data());
    if (magic == kContainerMagic) return LoadContainer(image, sm);
    if (magic == kElfMagic) return MachineCode();
    if (magic == kWrapperMagic) {
      return Problem(ImageProblem::kInvalid, "a fatbin wrapper makes no sense outside its process");
    }
  }
  const std::string_view text(reinterpret_cast<const char*>(image.data()), image.size());
  return LoadText(text.substr(0, text.find('\0')));
}

}  // namespace farwarp::softgpu

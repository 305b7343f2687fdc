#include "server/softgpu/api/module/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "farwarp/base/log.h"
#include "farwarp/base/unique_fd.h"

namespace farwarp::softgpu {

CUresult ReadImageFile(const char* path, std::vector<std::byte>* contents) {
  constexpr off_t kMaxBytes = off_t{4} << 30;
  const UniqueFd fd(open(path, O_RDONLY | O_CLOEXEC));
  struct stat info;
  if (!fd.valid() || fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    FARWARP_LOG(kError, "softgpu: cannot read %s", path);
    return CUDA_ERROR_FILE_NOT_FOUND;
  }
  if (info.st_size > kMaxBytes) return CUDA_ERROR_INVALID_IMAGE;
  contents->resize(static_cast<std::size_t>(info.st_size));
  std::size_t have = 0;
  while (have < contents->size()) {
    const ssize_t got = read(fd.get(), contents->data() + have, contents->size() - have);
    if (got <= 0) return CUDA_ERROR_FILE_NOT_FOUND;
    have += static_cast<std::size_t>(got);
  }
  return CUDA_SUCCESS;
}

}  // namespace farwarp::softgpu

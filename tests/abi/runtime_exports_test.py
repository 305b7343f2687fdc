#!/usr/bin/env python3
"""The surface of our libcudart.so.13: its names, their version node, its SONAME, and what it links.

    runtime_exports_test.py LIBRARY MODEL [TOOLKIT_LIBRARY]

The names must be those of the model plus the compiler's entry points and the graphics calls, which are
declared in headers that the model leaves out. With NVIDIA's library at hand they must equal its names.
"""
import json
import subprocess
import sys

NODE = "libcudart.so.13"

COMPILER = """
__cudaGetKernel __cudaGetProcAddress __cudaInitModule __cudaLaunchKernel __cudaLaunchKernel_ptsz
__cudaPopCallConfiguration __cudaPushCallConfiguration __cudaRegisterFatBinary __cudaRegisterFatBinaryEnd
__cudaRegisterFunction __cudaRegisterHostVar __cudaRegisterManagedVar __cudaRegisterUnifiedTable
__cudaRegisterVar __cudaUnregisterFatBinary
""".split()

GRAPHICS = """
cudaEGLStreamConsumerAcquireFrame cudaEGLStreamConsumerConnect cudaEGLStreamConsumerConnectWithFlags
cudaEGLStreamConsumerDisconnect cudaEGLStreamConsumerReleaseFrame cudaEGLStreamProducerConnect
cudaEGLStreamProducerDisconnect cudaEGLStreamProducerPresentFrame cudaEGLStreamProducerReturnFrame
cudaEventCreateFromEGLSync cudaGLGetDevices cudaGLMapBufferObject cudaGLMapBufferObjectAsync
cudaGLRegisterBufferObject cudaGLSetBufferObjectMapFlags cudaGLSetGLDevice cudaGLUnmapBufferObject
cudaGLUnmapBufferObjectAsync cudaGLUnregisterBufferObject cudaGraphicsEGLRegisterImage
cudaGraphicsGLRegisterBuffer cudaGraphicsGLRegisterImage cudaGraphicsResourceGetMappedEglFrame
cudaGraphicsVDPAURegisterOutputSurface cudaGraphicsVDPAURegisterVideoSurface cudaVDPAUGetDevice
cudaVDPAUSetVDPAUDevice
""".split()


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def exports(library):
    """Names and the version node of each, as name -> node."""
    found = {}
    for line in output("nm", "-D", "--defined-only", library).splitlines():
        symbol = line.split()[-1]
        name, _, node = symbol.partition("@")
        if name != NODE:  # The node itself is listed as an absolute symbol.
            found[name] = node.lstrip("@")
    return found


def main():
    library, model_path = sys.argv[1:3]
    with open(model_path, encoding="utf-8") as file:
        model = {function["name"] for function in json.load(file)["functions"]}
    ours = exports(library)
    expected = model | set(COMPILER) | set(GRAPHICS)
    problems = [f"missing: {name}" for name in sorted(expected - ours.keys())]
    problems += [f"not in the model: {name}" for name in sorted(ours.keys() - expected)]
    problems += [f"version node of {name} is {node!r}" for name, node in ours.items() if node != NODE]
    if len(expected) != 422:
        problems.append(f"the model gives {len(expected)} names, CUDA 13.0 has 422")
    dynamic = output("readelf", "-d", library)
    if f"soname: [{NODE}]" not in dynamic:
        problems.append(f"the SONAME is not {NODE}")
    for line in dynamic.splitlines():
        if "(NEEDED)" in line and not any(name in line for name in ("libc.so", "libm.so", "ld-linux", "libdl", "libpthread")):
            problems.append(f"links more than libc: {line.split('[')[-1].rstrip(']')}")
    if len(sys.argv) > 3:
        theirs = exports(sys.argv[3])
        problems += [f"only in the toolkit's library: {name}" for name in sorted(theirs.keys() - ours.keys())]
        problems += [f"not in the toolkit's library: {name}" for name in sorted(ours.keys() - theirs.keys())]
    else:
        print("no toolkit library: compared with the model only")
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

# Shared by gpu-check and bench-gpu; sourced, never run. From a bundle made by scripts/bundle, or
# from a checkout, which is then built. Sets:
#   programs   folder of trireme, gpu_tests and bench_gpu (GPU_PROGRAMS names another)
#   run        words before a program of that folder: they find its libraries
#   outside    words before a program that is not ours, which finds its own
# shellcheck shell=bash

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
outside=(env)
if [ -n "${LD_LIBRARY_PATH:-}" ]; then
    outside+=("LD_LIBRARY_PATH=$LD_LIBRARY_PATH")
else
    outside+=(-u LD_LIBRARY_PATH)
fi
if [ -n "${GPU_PROGRAMS:-}" ]; then
    programs=$(cd "$GPU_PROGRAMS" && pwd) run=(env)
elif [ -x "$here/run" ]; then
    # shellcheck disable=SC2034  # for those who source this
    programs=$here/bin run=("$here/run")
else
    (cd "$here" && scripts/install-packages && scripts/build cuda && scripts/build cuda bench_gpu)
    # shellcheck disable=SC2034
    programs=$here/build/cuda/bin run=(env)
fi
if [ "$(id -u)" -eq 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

# CUDA's libraries: what the user names, those that come with PyTorch (CUDA 13: nvidia/cu13/lib and
# a folder for each of cuDNN and NCCL; CUDA 12: a folder for each library), the toolkit's, and the
# driver's where a container keeps them apart.
of_pytorch=$(python3 - 2>/dev/null <<'PYTHON' || true
import glob, importlib.util
spec = importlib.util.find_spec("nvidia")
print("".join(path + ":" for root in (spec.submodule_search_locations if spec else [])
              for path in sorted(glob.glob(root + "/*/lib"))))
PYTHON
)
cuda=${CUDA_HOME:-/usr/local/cuda}
libraries=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$of_pytorch$cuda/lib64:$cuda/lib:$cuda/extras/CUPTI/lib64
export LD_LIBRARY_PATH=$libraries:/usr/local/nvidia/lib64
for folder_of_tools in "$cuda/bin" "$cuda/compute-sanitizer"; do
    case ":$PATH:" in *":$folder_of_tools:"*) ;; *) PATH=$PATH:$folder_of_tools ;; esac
done
unset of_pytorch cuda libraries folder_of_tools

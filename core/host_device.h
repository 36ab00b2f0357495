#pragma once

// Functions that the host and the device compiler share. Device code is compiled with relaxed
// constexpr, so constexpr functions of the standard library need no mark.
#ifdef __CUDACC__
#define TRIREME_HOST_DEVICE __host__ __device__
#else
#define TRIREME_HOST_DEVICE
#endif

#pragma once

#include <functional>
#include <vector>

namespace trireme {

// A variable of the environment that CUDA's driver reads when it starts.
struct DriverSetting {
    const char* name;
    const char* value;
};

// The settings this program wants and the user has not made. lookup: as getenv.
std::vector<DriverSetting> missing_driver_settings(
    const std::function<const char*(const char* name)>& lookup);

// Makes them. Before the driver starts and before there is any other thread, since one of them
// might be reading the environment.
void make_driver_settings();

}  // namespace trireme

#include <cstdio>

#include "app/commands.h"
#include "app/config.h"
#include "app/standard_output.h"
#include "core/error.h"

namespace trireme {

int config_command(const ConfigArguments& arguments) {
    const std::string text =
        arguments.reference
            ? configuration_reference()
            : dump_config(load_config(arguments.config, arguments.sets, arguments.world));
    std::fwrite(text.data(), 1, text.size(), stdout);
    check_standard_output();
    return static_cast<int>(ExitCode::ok);
}

}  // namespace trireme

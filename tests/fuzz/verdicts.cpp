#include <algorithm>
#include <fstream>
#include <iostream>

#include "core/error.h"
#include "core/safetensors.h"

// For each safetensors file in the list LIST: "accepted", or why it is refused.
int main(int argc, char** argv) {
    using namespace trireme;
    if (argc != 2) return 2;
    std::ifstream list(argv[1]);
    for (std::string path; std::getline(list, path);) {
        try {
            read_safetensors_header(path);
            std::cout << "accepted\n";
        } catch (const Error& error) {
            std::string why = error.what();
            std::replace(why.begin(), why.end(), '\n', ' ');
            std::cout << why << "\n";
        }
    }
    return 0;
}

#pragma once

#include <string>

namespace trireme::test {

// A configuration of so many steps of a model that trains in no time, saving every second one to
// "out"; its data is "data/text".
std::string tiny_run(int steps);

// Makes the dataset FOLDER/data/NAME from a text of so many lines.
void make_data(const std::string& folder, const std::string& name, int lines);

}  // namespace trireme::test

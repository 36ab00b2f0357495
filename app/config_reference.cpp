#include <string>

#include "app/config.h"
#include "app/schema.h"

namespace trireme {

namespace {

constexpr const char* kIntroduction =
    R"(# Configuration

A run is described by one YAML file. This page is made from the program's own table of keys by
`trireme config --reference`.

- `trireme config FILE` checks a file and prints it with every key filled in.
- `--set key=value` overrides one key of the file, with the dotted names of this page:
  `trireme train demo.yaml --set run.steps=50 optimizer.lr=1e-3`. The last one of a key counts.
- In the file `pipeline.cost.forward` is `cost.forward` in the section `pipeline`, or `forward` in a
  section `cost` there.
- All problems are reported at once, with the line of each, before anything is written; the exit
  code is then 78.
- Files are data only: at most 1 MiB and 32 levels, each key once, without tags and merge keys. An
  alias (`*name`) stands for a copy of what its anchor (`&name`) marks.
- `on resume` says what it means when a run goes on from a checkpoint with another value:
  *structural*, refused; *trajectory*, a warning and a record in `resumes.jsonl` and in later
  checkpoints; *operational*, no matter.
- `required` keys have no default. `model.preset` stands for the required keys of its section.
)";

std::string cell(const std::string& text) {
    return text.empty() ? " " : " " + text + " ";
}

}  // namespace

std::string configuration_reference() {
    std::string page = kIntroduction;
    std::string section = "-";
    for (const SchemaRow& row : config_schema()) {
        if (row.section() != section) {
            section = row.section();
            page += "\n## " + (section.empty() ? "Top level" : "`" + section + "`") +
                    "\n\n| key | default | value | on resume | meaning |\n|---|---|---|---|---|\n";
        }
        const std::string value = row.type + (row.allowed.empty() ? "" : ": " + row.allowed);
        page += "|" + cell("`" + row.key + "`") + "|" + cell(row.default_text) + "|" + cell(value) +
                "|" + cell(std::string(name_of(row.on_resume))) + "|" + cell(row.description) +
                "|\n";
    }
    return page;
}

}  // namespace trireme

#include "data/data_options.h"

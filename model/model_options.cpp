#include "model/model_options.h"

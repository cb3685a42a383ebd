#define VERSION 2
#include "tests/support/modules/version.h"

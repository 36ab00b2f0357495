# Compiler settings that every target of the project shares.
add_library(trireme_options INTERFACE)
target_include_directories(trireme_options INTERFACE ${PROJECT_SOURCE_DIR})
set(cxx_options -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wno-restrict
    -fno-math-errno -fno-trapping-math)
target_link_libraries(trireme_options INTERFACE OpenMP::OpenMP_CXX Threads::Threads)

if(TRIREME_NATIVE)
    list(APPEND cxx_options -march=native -mprefer-vector-width=512)
endif()
target_compile_options(trireme_options INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${cxx_options}>")

if(TRIREME_SANITIZE)
    # Reports show functions and lines; the rest of the debug information, and optimising what is
    # no kernel, would take three times as long to compile.
    target_compile_options(trireme_options INTERFACE -fsanitize=${TRIREME_SANITIZE}
        -fno-omit-frame-pointer -g1)
    add_compile_options(-O1)
    target_link_options(trireme_options INTERFACE -fsanitize=${TRIREME_SANITIZE})
endif()
if(TRIREME_FUZZ)
    # Warnings are the business of the compiler of the other presets.
    target_compile_options(trireme_options INTERFACE -fsanitize=fuzzer-no-link -O1 -w)
endif()

# A folder's library: all its sources, and the layers below it.
function(trireme_layer name)
    cmake_parse_arguments(LAYER "" "" "SOURCES;USES" ${ARGN})
    add_library(trireme_${name} STATIC ${LAYER_SOURCES})
    target_link_libraries(trireme_${name} PUBLIC trireme_options ${LAYER_USES})
endfunction()

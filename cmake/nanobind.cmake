# nanobind, from a copy in the build folder. pip's isolated environment has another path each time,
# and a command with another path would compile the bindings again.
execute_process(
  COMMAND ${Python_EXECUTABLE} -m nanobind --cmake_dir
  OUTPUT_STRIP_TRAILING_WHITESPACE
  OUTPUT_VARIABLE installed
  COMMAND_ERROR_IS_FATAL ANY)
cmake_path(GET installed PARENT_PATH installed)
file(GLOB_RECURSE files RELATIVE ${installed} ${installed}/*)
list(FILTER files EXCLUDE REGEX "__pycache__")
foreach(file IN LISTS files)
  cmake_path(GET file PARENT_PATH folder)
  file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/nanobind/${folder})
  file(COPY_FILE ${installed}/${file} ${CMAKE_BINARY_DIR}/nanobind/${file} ONLY_IF_DIFFERENT)
endforeach()
find_package(nanobind CONFIG REQUIRED PATHS ${CMAKE_BINARY_DIR}/nanobind/cmake NO_DEFAULT_PATH)

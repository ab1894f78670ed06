# Run by ctest: builds consumer.c against the stage in one of two ways, and runs it.
# Needs WAY (pkgconfig or findpackage), STAGE, CC, LIBDIR, VERSION, FLAGS, WORK, SOURCE.

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    string(REPLACE ";" " " line "${ARGN}")
    message(FATAL_ERROR "${line}: exit status ${status}")
  endif()
endfunction()

file(REMOVE_RECURSE ${WORK})
file(MAKE_DIRECTORY ${WORK})
set(ENV{LD_LIBRARY_PATH} "${STAGE}/${LIBDIR}:$ENV{LD_LIBRARY_PATH}")

if(WAY STREQUAL "pkgconfig")
  set(ENV{PKG_CONFIG_PATH} ${STAGE}/${LIBDIR}/pkgconfig)
  execute_process(COMMAND pkg-config --define-prefix --cflags --libs tessera
    OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(flags UNIX_COMMAND "${flags}")
  run(${CC} -std=c99 ${FLAGS} "-DEXPECTED_VERSION=\"${VERSION}\"" ${SOURCE}/consumer.c -o ${WORK}/consumer ${flags})
  run(${WORK}/consumer)
else()
  file(WRITE ${WORK}/CMakeLists.txt
    "cmake_minimum_required(VERSION 3.21)\n"
    "project(consumer LANGUAGES C)\n"
    "find_package(tessera ${VERSION} REQUIRED CONFIG)\n"
    "add_executable(consumer ${SOURCE}/consumer.c)\n"
    "target_compile_definitions(consumer PRIVATE EXPECTED_VERSION=\"${VERSION}\")\n"
    "target_link_libraries(consumer PRIVATE tessera::tessera)\n")
  run(${CMAKE_COMMAND} -S ${WORK} -B ${WORK}/build -DCMAKE_C_COMPILER=${CC} -DCMAKE_C_FLAGS=${FLAGS}
    -DCMAKE_PREFIX_PATH=${STAGE})
  run(${CMAKE_COMMAND} --build ${WORK}/build)
  run(${WORK}/build/consumer)
endif()

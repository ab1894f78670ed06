# Install rules: the library, its headers, the command, the shipped model, and how others find them.
include(CMakePackageConfigHelpers)
set(TSR_INSTALL_CMAKEDIR ${CMAKE_INSTALL_LIBDIR}/cmake/tessera)
set(TSR_INSTALL_MODELDIR ${CMAKE_INSTALL_DATADIR}/tessera/models)

install(TARGETS tessera EXPORT tessera-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/tessera DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(EXPORT tessera-targets NAMESPACE tessera:: DESTINATION ${TSR_INSTALL_CMAKEDIR})

# The command finds its library beside itself, wherever the whole is installed.
install(TARGETS tessera_command RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
set_target_properties(tessera_command PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")

# The manual page is printed by the command itself, from its table of options.
add_custom_command(OUTPUT ${PROJECT_BINARY_DIR}/tessera.1 VERBATIM
  COMMAND sh -c "\"$1\" options --format man >\"$2\"" sh $<TARGET_FILE:tessera_command> ${PROJECT_BINARY_DIR}/tessera.1
  DEPENDS tessera_command)
add_custom_target(tessera_manual ALL DEPENDS ${PROJECT_BINARY_DIR}/tessera.1)
install(FILES ${PROJECT_BINARY_DIR}/tessera.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)

configure_package_config_file(cmake/tessera-config.cmake.in ${PROJECT_BINARY_DIR}/tessera-config.cmake
  INSTALL_DESTINATION ${TSR_INSTALL_CMAKEDIR} PATH_VARS TSR_INSTALL_MODELDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/tessera-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/tessera-config.cmake ${PROJECT_BINARY_DIR}/tessera-config-version.cmake
  DESTINATION ${TSR_INSTALL_CMAKEDIR})

configure_file(cmake/tessera.pc.in ${PROJECT_BINARY_DIR}/tessera.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/tessera.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(FILES models/tessera-demo.safetensors models/README.md DESTINATION ${TSR_INSTALL_MODELDIR})

# imsy prepare, serve and pull, as programs.
foreach(name seed seed_interrupted seed_limits)
  add_test(NAME integration.${name}
           COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/${name}_test.py)
  set_tests_properties(integration.${name} PROPERTIES
    LABELS integration TIMEOUT 300
    ENVIRONMENT "IMSY_BUILD=${CMAKE_BINARY_DIR};PYTHONDONTWRITEBYTECODE=1"
    ENVIRONMENT_MODIFICATION "PYTHONPATH=set:${PROJECT_SOURCE_DIR}/tests/support")
endforeach()

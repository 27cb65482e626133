# One static library a room; DEPS are the rooms it may include (public), PRIVATE what its .cpp files use.

add_library(fedctl_options INTERFACE)
target_compile_features(fedctl_options INTERFACE cxx_std_20)
target_compile_options(fedctl_options INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wnon-virtual-dtor -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports impossible overflows inside inlined standard containers and coroutine frames.
  target_compile_options(fedctl_options INTERFACE
    -Wno-error=stringop-overflow -Wno-error=array-bounds -Wno-error=restrict -Wno-error=maybe-uninitialized
    -Wno-error=mismatched-new-delete)
else()
  target_compile_options(fedctl_options INTERFACE -Wno-sign-conversion)  # GCC's -Wconversion is without it, too
endif()
if(FEDCTL_SANITIZE)
  target_compile_options(fedctl_options INTERFACE -fsanitize=${FEDCTL_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(fedctl_options INTERFACE -fsanitize=${FEDCTL_SANITIZE})
  if(FEDCTL_SANITIZE STREQUAL "thread")
    # ThreadSanitizer knows no fences; asio's locks order everything that its fences do.
    target_compile_definitions(fedctl_options INTERFACE BOOST_ASIO_DISABLE_FENCED_BLOCK)
    target_compile_options(fedctl_options INTERFACE -Wno-error=tsan)
  endif()
endif()
# No reassociation and no contraction differences between files: sums are the same everywhere.
target_compile_options(fedctl_options INTERFACE -ffp-contract=off)

function(fedctl_room name)
  cmake_parse_arguments(ROOM "" "" "DEPS;PRIVATE" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/lib/${name}/*.cpp)
  set(target fedctl_${name})
  set(deps "")
  foreach(dep ${ROOM_DEPS})
    if(TARGET fedctl_${dep})
      list(APPEND deps fedctl_${dep})
    else()
      list(APPEND deps ${dep})
    endif()
  endforeach()
  if(sources)
    add_library(${target} STATIC ${sources})
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON)
    target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR}/lib)
    target_link_libraries(${target} PUBLIC ${deps} PRIVATE fedctl_options ${ROOM_PRIVATE})
  else()
    add_library(${target} INTERFACE)
    target_include_directories(${target} INTERFACE ${CMAKE_SOURCE_DIR}/lib)
    target_link_libraries(${target} INTERFACE ${deps})
  endif()
  # Rooms in layer order, for tests/CMakeLists.txt.
  set_property(GLOBAL APPEND PROPERTY FEDCTL_ROOMS ${name})
endfunction()

# stator_embed(LIBRARY FILE VARIABLE): adds to LIBRARY a text file's content as
# `const std::string_view stator::VARIABLE`, which a header declares extern.
function(stator_embed library file variable)
  file(READ ${CMAKE_SOURCE_DIR}/${file} content)
  set(source ${CMAKE_BINARY_DIR}/embedded/${variable}.cc)
  file(CONFIGURE OUTPUT ${source} @ONLY CONTENT [=[
#include <string_view>

namespace stator {
extern const std::string_view @variable@;
const std::string_view @variable@ = R"~~~~(@content@)~~~~";
}  // namespace stator
]=])
  set_property(DIRECTORY ${CMAKE_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
               ${CMAKE_SOURCE_DIR}/${file})
  target_sources(${library} PRIVATE ${source})
endfunction()

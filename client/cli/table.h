// Table: aligned columns of text for people. External lock.
#pragma once

#include <string>
#include <vector>

namespace farwarp::cli {

class Table {
 public:
  // A heading that begins with '>' is for numbers: its column is aligned to the right.
  explicit Table(std::vector<std::string> headings);
  void Add(std::vector<std::string> cells);
  std::string Text() const;

 private:
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace farwarp::cli

// Loading drivers that are whole, partial, no drivers at all, or missing.
#include <gtest/gtest.h>

#include "server/driver/table.h"

namespace farwarp::server::driver {
namespace {

TEST(Loader, MissingFileSaysWhatToDo) {
  const auto driver = Driver::Load("/nonexistent/libcuda.so.1");
  ASSERT_FALSE(driver.ok());
  EXPECT_EQ(driver.status().code(), StatusCode::kNotFound);
  EXPECT_NE(driver.status().message().find("/nonexistent/libcuda.so.1"), std::string::npos);
  EXPECT_NE(driver.status().message().find("--driver"), std::string::npos);
}

TEST(Loader, SomeOtherLibraryIsNoDriver) {
  const auto driver = Driver::Load("libm.so.6");
  ASSERT_FALSE(driver.ok());
  EXPECT_EQ(driver.status().code(), StatusCode::kInvalid);
  EXPECT_NE(driver.status().message().find("cuInit"), std::string::npos);
}

TEST(Loader, WhatADriverLacksIsNotSupported) {
  const auto driver = Driver::Load(FARWARP_PARTIAL_DRIVER);
  ASSERT_TRUE(driver.ok()) << driver.status().ToString();
  EXPECT_EQ((*driver)->missing(), 635);
  EXPECT_EQ((*driver)->table().cuInit(0), CUDA_SUCCESS);
  EXPECT_EQ((*driver)->table().cuCtxSynchronize_v2(nullptr), CUDA_ERROR_NOT_SUPPORTED);
  int version = 0;
  EXPECT_EQ((*driver)->table().cuDriverGetVersion(&version), CUDA_SUCCESS);
  EXPECT_EQ(version, 12345);
}

}  // namespace
}  // namespace farwarp::server::driver

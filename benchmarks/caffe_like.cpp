// The work of C++ Caffe 1.0 on a CPU, for machines where Caffe itself cannot be built: the same algorithms in the same
// order (im2col and one BLAS product an image, plain loops for the rest), N x C x H x W memory, BLAS on all cores.
// Written anew from Caffe's published behaviour; it computes no loss worth looking at, it only takes the time.
//
// caffe_like.py compiles it, writes its plan, a line a layer, and runs it: caffe_like PLAN ITERATIONS

#include <cblas.h>

#include <cfloat>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

using std::string;
using std::vector;

struct Blob {
  int n = 0, c = 0, h = 0, w = 0;
  std::shared_ptr<vector<float>> data, diff;
  void shape(int n_, int c_, int h_, int w_) {
    n = n_, c = c_, h = h_, w = w_;
    data = std::make_shared<vector<float>>(count(), 0.5f);
    diff = std::make_shared<vector<float>>(count(), 0.01f);
  }
  size_t count() const { return size_t(n) * c * h * w; }
  size_t item() const { return size_t(c) * h * w; }
  float* x() { return data->data(); }
  float* dx() { return diff->data(); }
};

static void gemm(CBLAS_TRANSPOSE a, CBLAS_TRANSPOSE b, int m, int n, int k, const float* A, const float* B, float beta,
                 float* C) {
  cblas_sgemm(CblasRowMajor, a, b, m, n, k, 1.f, A, a == CblasNoTrans ? k : m, B, b == CblasNoTrans ? n : k, beta, C, n);
}
const auto N = CblasNoTrans, T = CblasTrans;

static bool inside(int a, int b) { return unsigned(a) < unsigned(b); }

struct Layer {
  vector<Blob*> bottom, top;
  vector<int> wanted;  // gradients of bottoms
  virtual ~Layer() = default;
  virtual void forward() = 0;
  virtual void backward() = 0;
};

struct Parameters {
  vector<float> w, dw, b, db, ones;
  void shape(size_t weights, size_t biases, size_t multiplier) {
    w.resize(weights), dw.assign(weights, 0), b.assign(biases, 0), db.assign(biases, 0), ones.assign(multiplier, 1);
    static std::mt19937 random;
    const float limit = std::sqrt(3.f * biases / weights);  // "xavier": no value fades to where floats become slow
    for (auto& value : w) value = std::uniform_real_distribution<float>(-limit, limit)(random);
  }
};

struct Convolution : Layer {
  int out, kernel, stride, pad, group, oh, ow;
  Parameters p;
  vector<float> columns;
  explicit Convolution(std::istream& s) { s >> out >> kernel >> stride >> pad >> group; }
  void set_up() {
    Blob& x = *bottom[0];
    oh = (x.h + 2 * pad - kernel) / stride + 1, ow = (x.w + 2 * pad - kernel) / stride + 1;
    top[0]->shape(x.n, out, oh, ow);
    p.shape(size_t(out) * x.c / group * kernel * kernel, out, oh * ow);
    columns.resize(size_t(x.c) * kernel * kernel * oh * ow);
  }
  bool direct() const { return kernel == 1 && stride == 1 && pad == 0; }
  const float* im2col(const float* x) {
    if (direct()) return x;
    const Blob& b = *bottom[0];
    float* to = columns.data();
    for (int c = 0; c < b.c; ++c, x += b.h * b.w)
      for (int kh = 0; kh < kernel; ++kh)
        for (int kw = 0; kw < kernel; ++kw)
          for (int i = 0, row = kh - pad; i < oh; ++i, row += stride) {
            if (!inside(row, b.h)) {
              for (int j = 0; j < ow; ++j) *to++ = 0;
              continue;
            }
            for (int j = 0, col = kw - pad; j < ow; ++j, col += stride)
              *to++ = inside(col, b.w) ? x[row * b.w + col] : 0;
          }
    return columns.data();
  }
  void col2im(float* x) {
    const Blob& b = *bottom[0];
    std::memset(x, 0, sizeof(float) * b.item());
    const float* from = columns.data();
    for (int c = 0; c < b.c; ++c, x += b.h * b.w)
      for (int kh = 0; kh < kernel; ++kh)
        for (int kw = 0; kw < kernel; ++kw)
          for (int i = 0, row = kh - pad; i < oh; ++i, row += stride) {
            if (!inside(row, b.h)) {
              from += ow;
              continue;
            }
            for (int j = 0, col = kw - pad; j < ow; ++j, col += stride, ++from)
              if (inside(col, b.w)) x[row * b.w + col] += *from;
          }
  }
  void forward() override {
    const int depth = bottom[0]->c / group * kernel * kernel, side = oh * ow, rows = out / group;
    for (int n = 0; n < bottom[0]->n; ++n) {
      float* y = top[0]->x() + n * top[0]->item();
      const float* col = im2col(bottom[0]->x() + n * bottom[0]->item());
      for (int g = 0; g < group; ++g)
        gemm(N, N, rows, side, depth, &p.w[size_t(g) * rows * depth], col + size_t(g) * depth * side, 0,
             y + size_t(g) * rows * side);
      gemm(N, N, out, side, 1, p.b.data(), p.ones.data(), 1, y);
    }
  }
  void backward() override {
    const int depth = bottom[0]->c / group * kernel * kernel, side = oh * ow, rows = out / group;
    for (int n = 0; n < bottom[0]->n; ++n)
      cblas_sgemv(CblasRowMajor, N, out, side, 1, top[0]->dx() + n * top[0]->item(), side, p.ones.data(), 1, 1,
                  p.db.data(), 1);
    for (int n = 0; n < bottom[0]->n; ++n) {
      const float* dy = top[0]->dx() + n * top[0]->item();
      const float* col = im2col(bottom[0]->x() + n * bottom[0]->item());
      for (int g = 0; g < group; ++g)
        gemm(N, T, rows, depth, side, dy + size_t(g) * rows * side, col + size_t(g) * depth * side, 1,
             &p.dw[size_t(g) * rows * depth]);
      if (!wanted[0]) continue;
      float* dx = bottom[0]->dx() + n * bottom[0]->item();
      float* to = direct() ? dx : columns.data();
      for (int g = 0; g < group; ++g)
        gemm(T, N, depth, side, rows, &p.w[size_t(g) * rows * depth], dy + size_t(g) * rows * side, 0,
             to + size_t(g) * depth * side);
      if (!direct()) col2im(dx);
    }
  }
};

struct Pooling : Layer {
  int kind, kernel, stride, pad;  // kind 0: largest, 1: mean
  vector<int> mask;
  explicit Pooling(std::istream& s) { s >> kind >> kernel >> stride >> pad; }
  void set_up(int oh, int ow) {
    top[0]->shape(bottom[0]->n, bottom[0]->c, oh, ow);
    mask.resize(top[0]->count());
  }
  template <class F>
  void windows(F&& f) {  // f(plane, output, first and last row, first and last column, area with padding)
    const Blob &b = *bottom[0], &t = *top[0];
    for (int plane = 0; plane < b.n * b.c; ++plane)
      for (int i = 0; i < t.h; ++i)
        for (int j = 0; j < t.w; ++j) {
          int h0 = i * stride - pad, w0 = j * stride - pad;
          int h1 = std::min(h0 + kernel, b.h + pad), w1 = std::min(w0 + kernel, b.w + pad), area = (h1 - h0) * (w1 - w0);
          h1 = std::min(h1, b.h), w1 = std::min(w1, b.w), h0 = std::max(h0, 0), w0 = std::max(w0, 0);
          f(plane, size_t(plane) * t.h * t.w + i * t.w + j, h0, h1, w0, w1, area);
        }
  }
  void forward() override {
    float *x = bottom[0]->x(), *y = top[0]->x();
    const int side = bottom[0]->h * bottom[0]->w, width = bottom[0]->w;
    if (kind == 0) {
      std::fill(y, y + top[0]->count(), -FLT_MAX);
      std::fill(mask.begin(), mask.end(), -1);
      windows([&](int plane, size_t o, int h0, int h1, int w0, int w1, int) {
        const float* p = x + size_t(plane) * side;
        for (int h = h0; h < h1; ++h)
          for (int w = w0; w < w1; ++w)
            if (p[h * width + w] > y[o]) y[o] = p[h * width + w], mask[o] = h * width + w;
      });
    } else {
      std::fill(y, y + top[0]->count(), 0.f);
      windows([&](int plane, size_t o, int h0, int h1, int w0, int w1, int area) {
        const float* p = x + size_t(plane) * side;
        for (int h = h0; h < h1; ++h)
          for (int w = w0; w < w1; ++w) y[o] += p[h * width + w];
        y[o] /= area;
      });
    }
  }
  void backward() override {
    if (!wanted[0]) return;
    float *dx = bottom[0]->dx(), *dy = top[0]->dx();
    const int side = bottom[0]->h * bottom[0]->w, width = bottom[0]->w;
    std::fill(dx, dx + bottom[0]->count(), 0.f);
    if (kind == 0) {
      const size_t outputs = size_t(top[0]->h) * top[0]->w;
      for (size_t o = 0; o < top[0]->count(); ++o) dx[o / outputs * side + mask[o]] += dy[o];
    } else {
      windows([&](int plane, size_t o, int h0, int h1, int w0, int w1, int area) {
        float* p = dx + size_t(plane) * side;
        for (int h = h0; h < h1; ++h)
          for (int w = w0; w < w1; ++w) p[h * width + w] += dy[o] / area;
      });
    }
  }
};

struct ReLU : Layer {
  void forward() override {
    float *x = bottom[0]->x(), *y = top[0]->x();
    for (size_t i = 0, n = bottom[0]->count(); i < n; ++i) y[i] = std::max(x[i], 0.f) + 0.f * std::min(x[i], 0.f);
  }
  void backward() override {
    float *x = bottom[0]->x(), *dy = top[0]->dx(), *dx = bottom[0]->dx();
    for (size_t i = 0, n = bottom[0]->count(); i < n; ++i) dx[i] = dy[i] * ((x[i] > 0) + 0.f * (x[i] <= 0));
  }
};

struct LRN : Layer {
  int size;
  float alpha, beta, k;
  vector<float> scale, padded, ratio, product;
  explicit LRN(std::istream& s) { s >> size >> alpha >> beta >> k; }
  void set_up() {
    Blob& x = *bottom[0];
    top[0]->shape(x.n, x.c, x.h, x.w);
    scale.resize(x.count()), padded.assign(size_t(x.c + size - 1) * x.h * x.w, 0);
    ratio.resize(size_t(x.h) * x.w), product.resize(x.h * x.w);
  }
  void forward() override {
    Blob& b = *bottom[0];
    const int side = b.h * b.w;
    const float share = alpha / size;
    std::fill(scale.begin(), scale.end(), k);
    for (int n = 0; n < b.n; ++n) {
      const float* x = b.x() + n * b.item();
      float* s = &scale[n * b.item()];
      float* middle = &padded[size_t(size - 1) / 2 * side];
      for (size_t i = 0; i < b.item(); ++i) middle[i] = x[i] * x[i];
      for (int c = 0; c < size; ++c) cblas_saxpy(side, share, &padded[size_t(c) * side], 1, s, 1);
      for (int c = 1; c < b.c; ++c) {
        std::memcpy(s + size_t(c) * side, s + size_t(c - 1) * side, sizeof(float) * side);
        cblas_saxpy(side, share, &padded[size_t(c + size - 1) * side], 1, s + size_t(c) * side, 1);
        cblas_saxpy(side, -share, &padded[size_t(c - 1) * side], 1, s + size_t(c) * side, 1);
      }
    }
    float *x = b.x(), *y = top[0]->x();
    for (size_t i = 0; i < b.count(); ++i) y[i] = std::pow(scale[i], -beta);
    for (size_t i = 0; i < b.count(); ++i) y[i] *= x[i];
  }
  void backward() override {
    if (!wanted[0]) return;
    Blob& b = *bottom[0];
    const int side = b.h * b.w, before = size - (size + 1) / 2;
    float *x = b.x(), *dx = b.dx(), *dy = top[0]->dx(), *y = top[0]->x();
    for (size_t i = 0; i < b.count(); ++i) dx[i] = std::pow(scale[i], -beta);
    for (size_t i = 0; i < b.count(); ++i) dx[i] *= dy[i];
    std::fill(padded.begin(), padded.end(), 0.f);
    for (int n = 0; n < b.n; ++n) {
      const size_t at = n * b.item();
      float* middle = &padded[size_t(before) * side];
      for (size_t i = 0; i < b.item(); ++i) middle[i] = dy[at + i] * y[at + i];
      for (size_t i = 0; i < b.item(); ++i) middle[i] /= scale[at + i];
      std::fill(ratio.begin(), ratio.end(), 0.f);
      for (int c = 0; c < size - 1; ++c) cblas_saxpy(side, 1, &padded[size_t(c) * side], 1, ratio.data(), 1);
      for (int c = 0; c < b.c; ++c) {
        cblas_saxpy(side, 1, &padded[size_t(c + size - 1) * side], 1, ratio.data(), 1);
        for (int i = 0; i < side; ++i) product[i] = x[at + size_t(c) * side + i] * ratio[i];
        cblas_saxpy(side, -2 * alpha * beta / size, product.data(), 1, dx + at + size_t(c) * side, 1);
        cblas_saxpy(side, -1, &padded[size_t(c) * side], 1, ratio.data(), 1);
      }
    }
  }
};

// Within channels Caffe runs small layers: square, mean of the window, power, product.
struct LRNWithin : Layer {
  int size;
  float alpha, beta;
  Blob squares, mean, power;
  std::unique_ptr<Pooling> pool;
  explicit LRNWithin(std::istream& s) { s >> size >> alpha >> beta; }
  void set_up() {
    Blob& x = *bottom[0];
    for (Blob* blob : {top[0], &squares, &mean, &power}) blob->shape(x.n, x.c, x.h, x.w);
    std::stringstream text("1 " + std::to_string(size) + " 1 " + std::to_string(size / 2));
    pool = std::make_unique<Pooling>(text);
    pool->bottom = {&squares}, pool->top = {&mean}, pool->wanted = {1};
    pool->set_up(x.h, x.w);
  }
  void forward() override {
    float *x = bottom[0]->x(), *y = top[0]->x(), *s = squares.x(), *m = mean.x(), *p = power.x();
    const size_t n = bottom[0]->count();
    for (size_t i = 0; i < n; ++i) s[i] = x[i] * x[i];
    pool->forward();
    for (size_t i = 0; i < n; ++i) p[i] = m[i] * alpha;
    for (size_t i = 0; i < n; ++i) p[i] += 1;
    for (size_t i = 0; i < n; ++i) p[i] = std::pow(p[i], -beta);
    for (size_t i = 0; i < n; ++i) y[i] = x[i] * p[i];
  }
  void backward() override {
    if (!wanted[0]) return;
    float *x = bottom[0]->x(), *dx = bottom[0]->dx(), *dy = top[0]->dx();
    float *p = power.x(), *dp = power.dx(), *m = mean.x(), *dm = mean.dx(), *ds = squares.dx();
    const size_t n = bottom[0]->count();
    for (size_t i = 0; i < n; ++i) dx[i] = p[i] * dy[i];
    for (size_t i = 0; i < n; ++i) dp[i] = x[i] * dy[i];
    for (size_t i = 0; i < n; ++i) dm[i] = p[i] / (alpha * m[i] + 1) * (-beta * alpha);
    for (size_t i = 0; i < n; ++i) dm[i] *= dp[i];
    pool->backward();
    for (size_t i = 0; i < n; ++i) ds[i] *= 2 * x[i];
    for (size_t i = 0; i < n; ++i) dx[i] += ds[i];
  }
};

struct InnerProduct : Layer {
  int out;
  Parameters p;
  explicit InnerProduct(std::istream& s) { s >> out; }
  void set_up() {
    Blob& x = *bottom[0];
    top[0]->shape(x.n, out, 1, 1);
    p.shape(out * x.item(), out, x.n);
  }
  void forward() override {
    Blob& x = *bottom[0];
    gemm(N, T, x.n, out, int(x.item()), x.x(), p.w.data(), 0, top[0]->x());
    gemm(N, N, x.n, out, 1, p.ones.data(), p.b.data(), 1, top[0]->x());
  }
  void backward() override {
    Blob& x = *bottom[0];
    gemm(T, N, out, int(x.item()), x.n, top[0]->dx(), x.x(), 1, p.dw.data());
    cblas_sgemv(CblasRowMajor, T, x.n, out, 1, top[0]->dx(), out, p.ones.data(), 1, 1, p.db.data(), 1);
    if (wanted[0]) gemm(N, N, x.n, int(x.item()), out, top[0]->dx(), p.w.data(), 0, x.dx());
  }
};

struct Dropout : Layer {
  float ratio;
  vector<unsigned> mask;
  std::mt19937 random;
  explicit Dropout(std::istream& s) { s >> ratio; }
  void set_up() { mask.resize(bottom[0]->count()); }
  void forward() override {
    float *x = bottom[0]->x(), *y = top[0]->x();
    std::bernoulli_distribution keep(1 - ratio);
    for (auto& m : mask) m = keep(random);
    for (size_t i = 0; i < mask.size(); ++i) y[i] = x[i] * mask[i] / (1 - ratio);
  }
  void backward() override {
    float *dy = top[0]->dx(), *dx = bottom[0]->dx();
    for (size_t i = 0; i < mask.size(); ++i) dx[i] = dy[i] * mask[i] / (1 - ratio);
  }
};

struct Concat : Layer {
  void set_up() {
    int c = 0;
    for (Blob* b : bottom) c += b->c;
    top[0]->shape(bottom[0]->n, c, bottom[0]->h, bottom[0]->w);
  }
  template <class F>
  void pieces(F&& f) {
    size_t at = 0;
    for (size_t i = 0; i < bottom.size(); at += bottom[i]->item(), ++i)
      for (int n = 0; n < bottom[i]->n; ++n) f(i, n * bottom[i]->item(), n * top[0]->item() + at);
  }
  void forward() override {
    pieces([&](size_t i, size_t from, size_t to) {
      std::memcpy(top[0]->x() + to, bottom[i]->x() + from, sizeof(float) * bottom[i]->item());
    });
  }
  void backward() override {
    pieces([&](size_t i, size_t to, size_t from) {
      if (wanted[i]) std::memcpy(bottom[i]->dx() + to, top[0]->dx() + from, sizeof(float) * bottom[i]->item());
    });
  }
};

struct Split : Layer {
  void set_up() {
    for (Blob* t : top) {
      *t = *bottom[0];
      t->diff = std::make_shared<vector<float>>(t->count(), 0.01f);
    }
  }
  void forward() override {}
  void backward() override {
    if (!wanted[0]) return;
    float* dx = bottom[0]->dx();
    const size_t n = bottom[0]->count();
    for (size_t i = 0; i < n; ++i) dx[i] = top[0]->dx()[i] + top[1]->dx()[i];
    for (size_t t = 2; t < top.size(); ++t) cblas_saxpy(int(n), 1, top[t]->dx(), 1, dx, 1);
  }
};

struct SoftmaxLoss : Layer {
  vector<float> y;
  void set_up() { y.resize(bottom[0]->count()), top[0]->shape(1, 1, 1, 1); }
  void forward() override {
    Blob& b = *bottom[0];
    const int c = int(b.item());
    for (int n = 0; n < b.n; ++n) {
      const float* x = b.x() + size_t(n) * c;
      float most = x[0], total = 0;
      for (int i = 1; i < c; ++i) most = std::max(most, x[i]);
      for (int i = 0; i < c; ++i) total += y[size_t(n) * c + i] = std::exp(x[i] - most);
      for (int i = 0; i < c; ++i) y[size_t(n) * c + i] /= total;
    }
    *top[0]->x() = -std::log(std::max(y[3], FLT_MIN));
  }
  void backward() override {
    std::memcpy(bottom[0]->dx(), y.data(), sizeof(float) * y.size());
    cblas_sscal(int(y.size()), 1.f / bottom[0]->n, bottom[0]->dx(), 1);
  }
};

int main(int argc, char** argv) {
  std::ifstream plan(argv[1]);
  const int iterations = argc > 2 ? std::atoi(argv[2]) : 1;
  std::map<string, Blob> blobs;
  vector<std::unique_ptr<Layer>> layers;
  for (string line; std::getline(plan, line);) {
    // type, number of bottoms, their names and whether they need gradients, number of tops, names, parameters
    std::istringstream s(line);
    string type, name;
    int count, flag;
    s >> type >> count;
    vector<Blob*> bottom, top;
    vector<int> wanted;
    for (int i = 0; i < count; ++i) s >> name >> flag, bottom.push_back(&blobs[name]), wanted.push_back(flag);
    s >> count;
    for (int i = 0; i < count; ++i) s >> name, top.push_back(&blobs[name]);
    auto place = [&](auto* layer) {
      layer->bottom = bottom, layer->top = top, layer->wanted = wanted;
      layers.emplace_back(layer);
      return layer;
    };
    if (type == "Data") {
      for (Blob* t : top) {
        int n, c, h, w;
        s >> n >> c >> h >> w;
        t->shape(n, c, h, w);
      }
    } else if (type == "Convolution") {
      place(new Convolution(s))->set_up();
    } else if (type == "Pooling") {
      auto* layer = place(new Pooling(s));
      int oh, ow;
      s >> oh >> ow;
      layer->set_up(oh, ow);
    } else if (type == "ReLU") {
      place(new ReLU);
    } else if (type == "LRN") {
      place(new LRN(s))->set_up();
    } else if (type == "LRNWithin") {
      place(new LRNWithin(s))->set_up();
    } else if (type == "InnerProduct") {
      place(new InnerProduct(s))->set_up();
    } else if (type == "Dropout") {
      place(new Dropout(s))->set_up();
    } else if (type == "Concat") {
      place(new Concat)->set_up();
    } else if (type == "Split") {
      place(new Split)->set_up();
    } else if (type == "SoftmaxWithLoss") {
      place(new SoftmaxLoss)->set_up();
    } else {
      std::cerr << "no layer " << type << "\n";
      return 1;
    }
  }
  auto pass = [&] {
    for (auto& layer : layers) layer->forward();
    for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) (*layer)->backward();
  };
  pass();
  for (int i = 0; i < iterations; ++i) {
    const auto start = std::chrono::steady_clock::now();
    pass();
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    std::fprintf(stderr, "Iteration: %d forward-backward time: %.4f ms.\n", i + 1, took.count());
  }
}

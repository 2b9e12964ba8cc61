"""LSTM: gated memory over sequences."""

from __future__ import annotations

from caffepy.errors import ConfigError
from caffepy.layers.cell import Cell
from caffepy.layers.lstm_cell import LSTMCell
from caffepy.layers.lstm_variants import NormalizedCell, PeepholeCell
from caffepy.layers.recurrent import Recurrent
from caffepy.net.layer import register


@register("LSTM")
class LSTM(Recurrent):
    """c_t = f m_t c_t-1 + i g, h_t = o tanh(c_t) (Hochreiter and Schmidhuber 1997, Donahue et al. 2015).

    i, f, o = sigmoid and g = tanh of their quarter of W_x x_t + b [+ W_static s] + W_h (m_t h_t-1).
    Parameters: W_x (4 D, I), b (4 D), [W_static (4 D, S)], W_h (4 D, D), and what `peephole` or `layer_norm`, true,
    add (see `lstm_variants`). States: h, then c. The rest is as `Recurrent` says.
    """

    cell = LSTMCell

    def cell_class(self) -> type[Cell]:
        p = self.param.recurrent_param
        if p.peephole and p.layer_norm:
            raise ConfigError("recurrent_param has both peephole and layer_norm", hint="Keep one of the two.")
        return NormalizedCell if p.layer_norm else PeepholeCell if p.peephole else LSTMCell

"""The averages of one step by quadrature, where no algebra closes them."""

"""Colours that the common kinds of colour blindness tell apart: Okabe and Ito's palette, and three more after Tol."""

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#888888"
WINE, INDIGO, SAND = "#882255", "#332288", "#B8A94A"

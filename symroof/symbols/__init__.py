"""Every symbol once: its text, its name, what it means, its unit and where it lives."""

from symroof.symbols.devices import *  # noqa: F403
from symroof.symbols.layers import LAYERS as LAYERS
from symroof.symbols.models import *  # noqa: F403
from symroof.symbols.names import Values as Values
from symroof.symbols.names import declare as declare
from symroof.symbols.names import lookup as lookup
from symroof.symbols.names import named as named
from symroof.symbols.names import option_name as option_name
from symroof.symbols.names import substitute as substitute
from symroof.symbols.of_service import *  # noqa: F403
from symroof.symbols.of_techniques import *  # noqa: F403
from symroof.vocabulary import VOCABULARY as VOCABULARY
from symroof.vocabulary import Variable as Variable

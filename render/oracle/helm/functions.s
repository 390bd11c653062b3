// An assembly file, though empty, lets Go compile a function that is declared here and defined elsewhere.

# among LINE TEXT: succeed if the text has the line.
among() {
  case "
$2
" in *"
$1
"*) ;; *) false ;; esac
}

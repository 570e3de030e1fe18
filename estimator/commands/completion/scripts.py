"""The completion scripts of bash, zsh and fish: each asks ``llmcalc completion words`` what may stand next."""

from __future__ import annotations

import os
from pathlib import Path

from estimator.errors import InputError, unknown

BASH = """# llmcalc completion for bash: source it, or put it into ~/.local/share/bash-completion/completions/llmcalc
_llmcalc() {
    local IFS=$'\\n' line=${COMP_LINE:0:COMP_POINT} now
    local -a words
    IFS=$' \\t' read -r -a words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    now=${words[${#words[@]}-1]}
    COMPREPLY=($(llmcalc completion words -- "${words[@]:1}" 2>/dev/null))
    # bash breaks words at = and :, and replaces what stands after the last of them
    local head=${now%"${now##*[=:]}"}
    [[ -n $head ]] && COMPREPLY=("${COMPREPLY[@]#"$head"}")
    return 0
}
complete -o default -o bashdefault -F _llmcalc llmcalc
"""
ZSH = """#compdef llmcalc
# llmcalc completion for zsh: put it as _llmcalc into a folder of $fpath, or source it after compinit
_llmcalc() {
    local -a found
    found=("${(@f)$(llmcalc completion words --describe zsh -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if (( ${#found} )) && [[ -n ${found[1]} ]]; then _describe -V 'llmcalc' found; else _files; fi
}
if [[ ${funcstack[1]-} == _llmcalc ]]; then _llmcalc "$@"; else compdef _llmcalc llmcalc; fi
"""
FISH = """# llmcalc completion for fish: put it into ~/.config/fish/completions/llmcalc.fish
function __llmcalc_words
    set -l words (commandline -opc) (commandline -ct)
    llmcalc completion words --describe fish -- $words[2..-1] 2>/dev/null
end
complete -c llmcalc -a '(__llmcalc_words)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def script(shell: str | None) -> str:
    """The script of a shell, the user's own where none is named."""
    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in SCRIPTS:
        raise unknown("shell", name, SCRIPTS)
    return SCRIPTS[name]


def install(shell: str | None) -> Path:
    """Write the script where the shell looks for it; where it went. bash and zsh find it through a line in their rc."""
    name = shell or Path(os.environ.get("SHELL", "")).name
    text, home = script(name), Path.home()
    place, rc, line = {
        "bash": (home / ".bash_completions" / "llmcalc.sh", home / ".bashrc", "source '{}'"),
        "zsh": (home / ".zfunc" / "_llmcalc", home / ".zshrc", "fpath+=~/.zfunc; autoload -Uz compinit; compinit"),
        "fish": (home / ".config" / "fish" / "completions" / "llmcalc.fish", None, ""),
    }[name]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
        if rc is not None:
            wanted = line.format(place)
            had = rc.read_text(encoding="utf-8") if rc.exists() else ""
            if wanted not in had:
                rc.write_text(had + ("" if had.endswith("\n") or not had else "\n") + wanted + "\n", encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--install-completion: {place}: {getattr(error, 'strerror', None) or error}") from None
    return place

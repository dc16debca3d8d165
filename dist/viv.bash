# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Completion of viv(1) for bash. What verbs and options there are is read from viv's own help, so it
# fits whichever viv is run. Sandboxes are asked of a vivd that runs; none is ever started.

# The verbs of viv $1.
__viv_verbs() {
	local line

	while IFS= read -r line; do
		[[ $line =~ ^\ \ ([a-z]+)\ +[A-Z] ]] && printf '%s\n' "${BASH_REMATCH[1]}"
	done < <("$1" --help 2>/dev/null)
}

# Reads the help of verb $2 of viv $1 into the caller's usage, options and valued: the way it is
# used, its options, and those of them that have a value (one space and a word behind their name).
__viv_read_verb() {
	local line paragraph=usage name

	while IFS= read -r line; do
		[[ -n $line ]] || paragraph=
		[[ -z $paragraph ]] || usage+=$line
		[[ $line =~ ^\ \ ((-[a-zA-Z]),\ )?(--[a-z][a-z-]*)(\ [^\ ])? ]] || continue
		for name in "${BASH_REMATCH[2]}" "${BASH_REMATCH[3]}"; do
			[[ -n $name ]] || continue
			options+=("$name")
			[[ -z ${BASH_REMATCH[4]} ]] || valued+=" $name "
		done
	done < <("$1" "$2" --help 2>/dev/null)
}

# Ids and names of the sandboxes of the vivd at socket $2, by viv $1. With --socket, viv does not
# start one where the socket is that of one that is gone.
__viv_sandboxes() {
	local socket=$2 id name

	if [[ -z $socket ]]; then
		socket=${VIVARIUM_SOCKET:-${VIVARIUM_RUN_DIR:-/run/vivarium}/vivd.sock}
	fi
	[[ -S $socket ]] || return
	while read -r id name _; do
		[[ $id != ID ]] || continue
		printf '%s\n' "$id"
		[[ $name == - ]] || printf '%s\n' "$name"
	done < <(timeout 2 "$1" --socket "$socket" ls 2>/dev/null)
}

# Offers those of its arguments that begin as the word at the cursor does.
__viv_offer() {
	local word

	for word in "$@"; do
		[[ $word != "$cur"* ]] || COMPREPLY+=("$word")
	done
}

# Offers the value of option $1.
__viv_offer_value() {
	case $1 in
	--socket | --secret-file)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		;;
	--on-idle)
		__viv_offer pause kill
		;;
	--restart)
		__viv_offer no on-failure
		;;
	--event)
		__viv_offer created running paused resumed checkpointed stopped killed error
		;;
	-e | --env)
		compopt -o nospace 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -e -- "$cur")
		;;
	esac
}

# Offers what can be copied: files, and the sandboxes of viv $1.
__viv_offer_ends() {
	local name words

	compopt -o nospace -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen -f -- "$cur")
	mapfile -t words < <(__viv_sandboxes "$1" "$socket")
	for name in "${words[@]}"; do
		__viv_offer "$name:"
	done
}

# Offers what may stand behind the verb, where $2 words stand already. $1 is viv.
__viv_offer_argument() {
	local words

	if [[ $cur == -* ]]; then
		__viv_offer "${options[@]}" --help
	elif [[ $usage == *SANDBOX:PATH* ]]; then
		__viv_offer_ends "$1"
	elif [[ $usage == *FILE* ]]; then
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
	elif [[ $usage == *SANDBOX...* || ($usage == *SANDBOX* && $2 == 0) ]]; then
		mapfile -t words < <(__viv_sandboxes "$1" "$socket")
		__viv_offer "${words[@]}"
	fi
}

_viv() {
	local viv=$1 cur=$2 verb='' usage='' valued=' --socket ' option='' socket='' word i n=0
	local -a options=(--socket --help --version)

	COMPREPLY=()
	[[ $cur != = ]] || cur='' # bash takes --option=value for three words
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [[ $word == = ]]; then
			[[ -n $option ]] || ((i++)) # of a value: NAME=VALUE
		elif [[ -n $option ]]; then
			[[ $option != --socket || -n $verb ]] || socket=$word
			option=
		elif [[ $word == -- ]]; then
			return # a command of the guest's
		elif [[ $word == -* ]]; then
			[[ $valued != *" $word "* ]] || option=$word
		elif [[ -z $verb ]]; then
			verb=$word options=() valued=
			__viv_read_verb "$viv" "$verb"
		else
			((++n))
			[[ $usage != *COMMAND* ]] || return # the rest is the guest's, too
		fi
	done

	if ((i > COMP_CWORD)); then
		return # behind the = of NAME=VALUE
	elif [[ -n $option ]]; then
		__viv_offer_value "$option"
	elif [[ -n $verb ]]; then
		__viv_offer_argument "$viv" "$n"
	elif [[ $cur == -* ]]; then
		__viv_offer "${options[@]}"
	else
		mapfile -t options < <(__viv_verbs "$viv")
		__viv_offer "${options[@]}"
	fi
}

complete -F _viv viv

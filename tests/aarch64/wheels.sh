# Whether pip finds each wheel that a lock file pins, by its hash, for that system. Sourced.

# check_wheels DIR LOCK...: a line of a Markdown table each. What is fetched is kept in DIR until the lock
# file is another one.
check_wheels() {
  local dir=$1 lock name python arch tag options key folder status=0
  shift
  for lock in "$@"; do
    name=$(basename "$lock" .txt) # py311-aarch64
    arch=${name#*-} tag=${name%%-*}
    python=3.${tag#py3}
    folder=$dir/wheels/$name
    key=$(sha256sum <"$lock")
    if [ "$(cat "$folder/key" 2>/dev/null)" != "$key" ]; then
      rm -rf "$folder"
      mkdir -p "$folder"
      options=()
      for tag in manylinux_2_{34,31,28,27,26,24,17} manylinux2014; do options+=(--platform "${tag}_$arch"); done
      if ! "$dir/pip/bin/pip" download --quiet --disable-pip-version-check --no-deps --require-hashes \
        --only-binary=:all: --implementation cp --python-version "$python" "${options[@]}" \
        --dest "$folder" --requirement "$lock" >"$folder/pip.log" 2>&1; then
        echo "| $python, $arch | **MISSING**: $(grep -m1 ERROR "$folder/pip.log") |"
        status=1
        continue
      fi
      printf '%s' "$key" >"$folder/key"
    fi
    echo "| $python, $arch | all $(grep -c '==' "$lock") wheels, $(du -ch "$folder"/*.whl | tail -n 1 | cut -f 1)B |"
  done
  return $status
}

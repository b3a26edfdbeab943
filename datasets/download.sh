#!/bin/sh
# Downloads the published files, verifies them and imports them to HDF5.
#
#   datasets/download.sh [FOLDER]      (default: datasets)
#
# Raw files go to FOLDER/raw, data sets to FOLDER. What is there and whole is not fetched again.
# PDADMM_G names the program (default: target/release/pdadmm-g, or else pdadmm-g on the path);
# tests find the files when PDADMM_DATASETS is FOLDER.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here}
mkdir -p "$folder/raw/planetoid" "$folder/raw/npz"
folder=$(cd "$folder" && pwd)

program=${PDADMM_G:-$here/../target/release/pdadmm-g}
if ! command -v "$program" >/dev/null 2>&1; then
    program=pdadmm-g
fi
for tool in curl sha256sum "$program"; do
    if ! command -v "$tool" >/dev/null 2>&1; then
        echo "download.sh: $tool is not there; install it (the program: cargo build --release)" >&2
        exit 1
    fi
done

planetoid=https://raw.githubusercontent.com/kimiyoung/planetoid/master/data
benchmark=https://raw.githubusercontent.com/shchur/gnn-benchmark/master/data/npz

# fetch SHA256 FILE URL
fetch() {
    file=$folder/raw/$2
    if [ ! -f "$file" ] || ! echo "$1  $file" | sha256sum --check --status; then
        echo "fetching $2"
        curl --fail --location --silent --show-error --retry 3 --output "$file.part" "$3"
        if ! echo "$1  $file.part" | sha256sum --check --status; then
            echo "download.sh: $2 is not the published file (its SHA-256 differs); kept as $file.part" >&2
            exit 1
        fi
        mv "$file.part" "$file"
    fi
}

fetch 9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543 planetoid/ind.cora.allx "$planetoid/ind.cora.allx"
fetch 2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71 planetoid/ind.cora.ally "$planetoid/ind.cora.ally"
fetch 58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d planetoid/ind.cora.graph "$planetoid/ind.cora.graph"
fetch 297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875 planetoid/ind.cora.test.index "$planetoid/ind.cora.test.index"
fetch b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a planetoid/ind.cora.tx "$planetoid/ind.cora.tx"
fetch 41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad planetoid/ind.cora.ty "$planetoid/ind.cora.ty"
fetch 23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab planetoid/ind.cora.x "$planetoid/ind.cora.x"
fetch 94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1 planetoid/ind.cora.y "$planetoid/ind.cora.y"
fetch 508e538e2abdccdd54c4d3e9f49d638b4af7107d85845f66ddea5a5152658b7e planetoid/ind.pubmed.allx "$planetoid/ind.pubmed.allx"
fetch 0c37bbe3b5014ec365e9d393cf4791925e5ed94fb194305d74f064a8d7b50f0e planetoid/ind.pubmed.ally "$planetoid/ind.pubmed.ally"
fetch 5b89f0036ca22909471f1e6558eb42fa06e0c730a577bde5b058b40638f81dc9 planetoid/ind.pubmed.graph "$planetoid/ind.pubmed.graph"
fetch b101d421688bbaecbd82e8a18f1e282378d6830f3a37666f28ebc47f844341b5 planetoid/ind.pubmed.test.index "$planetoid/ind.pubmed.test.index"
fetch 4eb5f5d0f30f26497eb0ac6ac9719d09c67e284f1ed0385c93f3ef27a671da3d planetoid/ind.pubmed.tx "$planetoid/ind.pubmed.tx"
fetch ee2e0d4819d9fbcc403689c3bf2e49face401b605932f093bc58ab6461130fdd planetoid/ind.pubmed.ty "$planetoid/ind.pubmed.ty"
fetch fbe9cb5c47200d1b7769a26e579be3b7130b556831f9d850e77c4c74f2599b33 planetoid/ind.pubmed.x "$planetoid/ind.pubmed.x"
fetch e6c807633307a07ed659249006536a147c7999c797f11a2560752990181b41b3 planetoid/ind.pubmed.y "$planetoid/ind.pubmed.y"
fetch 736ba1d9fd85eac2da83a5ad25c463f04b0031a6ca01563f90a7099d9e8ffb2c npz/amazon_electronics_computers.npz "$benchmark/amazon_electronics_computers.npz"
fetch e4d68468eba5fb8f6b280ffd406bd53e6e4295ba1dd2967d6fe99b978e4b3375 npz/ms_academic_phy.npz "$benchmark/ms_academic_phy.npz"

import() {
    if [ ! -f "$folder/$1.h5" ]; then
        "$program" dataset import --format "$2" --name "$1" --input "$folder/raw/$3" --output "$folder/$1.h5"
    fi
}

import cora planetoid planetoid
import pubmed planetoid planetoid
import amazon-computers npz npz/amazon_electronics_computers.npz
import coauthor-physics npz npz/ms_academic_phy.npz
